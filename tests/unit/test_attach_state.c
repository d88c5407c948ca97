/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/attach_state.h"

#include "unit/test.h"

static struct target target;
static struct net_failure failure;

static void make_target(uint32_t index)
{
    target_init(&target);
    target.index = index;
    target.connections = 4;
    CHECK(target_set_server(&target, "/run/s", &failure) == 0);
    CHECK(target_set_export(&target, "disk", &failure) == 0);
}

static void write_state(const char *dir, const char *text)
{
    char path[512];
    FILE *file;

    (void)snprintf(path, sizeof(path), "%s/nbd1", dir);
    file = fopen(path, "we");
    CHECK(file && fputs(text, file) >= 0 && fclose(file) == 0);
}

TEST("what was saved is loaded, replaced, and forgotten")
{
    const char *dir = test_dir();
    struct target loaded;
    uint32_t alive;

    make_target(1);
    CHECK(attach_state_load(dir, 1, &loaded, &alive) == -ENOENT);
    NEED(attach_state_save(dir, &target, 4) == 0);
    NEED(attach_state_load(dir, 1, &loaded, &alive) == 0);
    CHECK(alive == 4 && loaded.connections == 4);
    CHECK(strcmp(loaded.server, "/run/s") == 0);
    NEED(attach_state_save(dir, &target, 1) == 0);
    NEED(attach_state_load(dir, 1, &loaded, &alive) == 0 && alive == 1);
    CHECK(attach_state_load(dir, 2, &loaded, &alive) == -ENOENT);
    CHECK(attach_state_remove(dir, 1) == 0);
    CHECK(attach_state_load(dir, 1, &loaded, &alive) == -ENOENT);
    CHECK(attach_state_remove(dir, 1) == 0);
}

TEST("what makes no sense is not believed")
{
    const char *dir = test_dir();
    struct target loaded;
    uint32_t alive;

    write_state(dir, "");
    CHECK(attach_state_load(dir, 1, &loaded, &alive) == -EINVAL);
    write_state(dir, "nbd1 /run/s disk\n");
    CHECK(attach_state_load(dir, 1, &loaded, &alive) == -EINVAL);
    write_state(dir, "nbd1 /run/s disk\nalive 77\n");
    CHECK(attach_state_load(dir, 1, &loaded, &alive) == -EINVAL);
    write_state(dir, "nbd1 /run/s disk\nalive 1111111111111111111111\n");
    CHECK(attach_state_load(dir, 1, &loaded, &alive) == -EINVAL);
    write_state(dir, "nbd2 /run/s disk\nalive 1\n");
    CHECK(attach_state_load(dir, 1, &loaded, &alive) == -EINVAL);
    write_state(dir, "nbd1 /run/s disk\nalive 1\n");
    CHECK(attach_state_load(dir, 1, &loaded, &alive) == 0);
}

TEST("one at a time has a device's lock, and others see that")
{
    char dir[300];
    int fd, other;

    (void)snprintf(dir, sizeof(dir), "%s/new", test_dir());
    CHECK(!attach_state_is_locked(dir, 1));
    fd = attach_state_lock(dir, 1);
    NEED(fd >= 0);
    CHECK(attach_state_is_locked(dir, 1));
    CHECK(attach_state_lock(dir, 1) == -EWOULDBLOCK);
    other = attach_state_lock(dir, 2);
    CHECK(other >= 0);
    (void)close(other);
    (void)close(fd);
    CHECK(!attach_state_is_locked(dir, 1));
    fd = attach_state_lock(dir, 1);
    CHECK(fd >= 0);
    (void)close(fd);
}

TEST("a directory that cannot be made is an error")
{
    make_target(1);
    CHECK(attach_state_lock("/proc/nowhere/x", 1) == -ENOENT);
    CHECK(attach_state_save("/proc/nowhere", &target, 1) == -ENOENT);
}
