/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/attach_state.h"

#include <pthread.h>
#include <stdatomic.h>

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
    CHECK(attach_state_load(dir, 1, 7, &loaded, &alive) == -ENOENT);
    NEED(attach_state_save(dir, &target, 4, 7) == 0);
    NEED(attach_state_load(dir, 1, 7, &loaded, &alive) == 0);
    CHECK(alive == 4 && loaded.connections == 4);
    CHECK(strcmp(loaded.server, "/run/s") == 0);
    NEED(attach_state_save(dir, &target, 1, UINT32_MAX) == 0);
    NEED(attach_state_load(dir, 1, UINT32_MAX, &loaded, &alive) == 0);
    CHECK(alive == 1);
    CHECK(attach_state_load(dir, 2, UINT32_MAX, &loaded, &alive) == -ENOENT);
    CHECK(attach_state_remove(dir, 1) == 0);
    CHECK(attach_state_load(dir, 1, UINT32_MAX, &loaded, &alive) == -ENOENT);
    CHECK(attach_state_remove(dir, 1) == 0);
}

TEST("what was kept of another attachment is not of this one")
{
    const char *dir = test_dir();
    struct target loaded;
    uint32_t alive;

    make_target(1);
    NEED(attach_state_save(dir, &target, 4, 7) == 0);
    CHECK(attach_state_load(dir, 1, 8, &loaded, &alive) == -ENOENT);
    /* One that nobody made is none. */
    CHECK(attach_state_load(dir, 1, 0, &loaded, &alive) == -ENOENT);
    NEED(attach_state_save(dir, &target, 4, 0) == 0);
    CHECK(attach_state_load(dir, 1, 0, &loaded, &alive) == -ENOENT);
}

TEST("what makes no sense is not believed")
{
    static const char *const wrong[] = {
        "",
        "nbd1 /run/s disk\n",
        "nbd1 /run/s disk\nalive 1\n",
        "nbd1 /run/s disk\nattached-by 7\n",
        "nbd1 /run/s disk\nalive 77\nattached-by 7\n",
        "nbd1 /run/s disk\nalive 1111111111111111111111\nattached-by 7\n",
        "nbd1 /run/s disk\nalive 1\nattached-by 4294967296\n",
        "nbd2 /run/s disk\nalive 1\nattached-by 7\n",
    };
    const char *dir = test_dir();
    struct target loaded;
    uint32_t alive;

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        write_state(dir, wrong[i]);
        CHECK(attach_state_load(dir, 1, 7, &loaded, &alive) == -EINVAL);
    }
    write_state(dir, "nbd1 /run/s disk\nalive 1\nattached-by 7\n");
    CHECK(attach_state_load(dir, 1, 7, &loaded, &alive) == 0);
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

static atomic_bool ends;

static void *look_again_and_again(void *dir)
{
    bool was_locked = false;

    while (!atomic_load(&ends))
        was_locked |= attach_state_is_locked(dir, 1);
    return was_locked ? dir : NULL;
}

TEST("who only looks whether it is locked keeps nobody from the lock")
{
    char dir[300];
    pthread_t thread;
    unsigned failed = 0;

    (void)snprintf(dir, sizeof(dir), "%s/new", test_dir());
    (void)close(attach_state_lock(dir, 1));
    NEED(pthread_create(&thread, NULL, look_again_and_again, dir) == 0);
    for (int i = 0; i < 2000; i++) {
        int fd = attach_state_lock(dir, 1);

        failed += fd < 0;
        if (fd >= 0)
            (void)close(fd);
    }
    CHECK(failed == 0);
    atomic_store(&ends, true);
    CHECK(pthread_join(thread, NULL) == 0);
}

TEST("a directory that cannot be made is an error")
{
    make_target(1);
    CHECK(attach_state_lock("/proc/nowhere/x", 1) == -ENOENT);
    CHECK(attach_state_save("/proc/nowhere", &target, 1, 7) == -ENOENT);
}
