/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/attach.h"

#include "attach/attach_state.h"
#include "nbd/nbd_protocol.h"
#include "support/export_server.h"
#include "support/nbd_kernel.h"
#include "unit/test.h"

static struct nbd_kernel *kernel;
static struct export_server *server;
static struct attach_host host;
static struct target target;
static struct links *links;
static struct net_failure failure;
static char path[PATH_MAX + 8], state_dir[PATH_MAX + 8];

static const uint64_t SIZE = 1 << 20;

/* A kernel, a server, and a target that is to be attached to it. */
static bool begin(struct export_server_script script)
{
    const char *root = test_dir();

    (void)snprintf(path, sizeof(path), "%s/s", root);
    (void)snprintf(state_dir, sizeof(state_dir), "%s/run", root);
    kernel = nbd_kernel_start(root);
    server = export_server_start(path, script);
    host = (struct attach_host){.root = root, .state_dir = state_dir};
    target_init(&target);
    target.index = 1;
    /* The directory is made by who locks. */
    (void)close(attach_state_lock(state_dir, 1));
    return nbd_driver_open_over(nbd_kernel_open(kernel, false), &host.driver,
                                &failure) == 0 &&
           target_set_server(&target, path, &failure) == 0 &&
           target_set_export(&target, "disk", &failure) == 0 &&
           links_new(&links) == 0;
}

static void done(void)
{
    links_free(links);
    nbd_driver_close(host.driver);
    nbd_kernel_stop(kernel);
    if (server)
        export_server_kill(server);
    server = NULL;
}

static void restart(struct export_server_script script)
{
    export_server_kill(server);
    server = export_server_start(path, script);
}

static int attach(uint32_t connections)
{
    target.connections = connections;
    return attach_device(&host, &target, links, &failure);
}

/* Restore; returns how many were taken, or the error. */
static int restore(void)
{
    uint32_t taken;
    int error = attach_restore(&host, &target, false, links, &taken, &failure);

    return error ? error : (int)taken;
}

/* What the file in /sys says of the device's timer, in milliseconds. */
static int timer(void)
{
    char name[PATH_MAX + 64], text[16] = "";
    FILE *file;

    (void)snprintf(name, sizeof(name), "%s/sys/block/nbd1/queue/io_timeout",
                   host.root);
    file = fopen(name, "re");
    CHECK(file && fgets(text, sizeof(text), file) && fclose(file) == 0);
    return text[0] == '5' ? 5000 : text[0] == '3' ? 30000 : -1;
}

TEST("a device is attached with what the server and the target say")
{
    struct nbd_kernel_device told;
    struct links_count count;
    struct target kept;
    uint32_t alive;

    NEED(begin(export_server_good(SIZE)));
    target.timeout_s = 7;
    target.dead_timeout_s = 8;
    NEED(attach(3) == 0);
    told = nbd_kernel_device(kernel, 1);
    CHECK(told.size == SIZE && told.block_size == 4096);
    CHECK(told.connections == 3 && (told.flags & NBD_FLAG_READ_ONLY) == 0);
    CHECK(told.timeout_s == 7 && told.dead_timeout_s == 8);
    CHECK(strcmp(told.backend, "disk@0123456789abcdef-1") == 0);
    CHECK(links_count(links, &count) == 0 && count.alive == 3);
    CHECK(attach_state_load(state_dir, 1, told.attached_by, &kept, &alive) ==
              0 &&
          alive == 3);
    export_server_wait_chosen(server, 3);
    CHECK(attach(1) == -EBUSY);
    done();
}

TEST("a server that allows one connection gets one, one without a name no more")
{
    struct export_server_script script = export_server_good(SIZE);

    script.flags &= (uint16_t)~NBD_FLAG_CAN_MULTI_CONN;
    script.incarnation = NULL;
    NEED(begin(script));
    target.read_only = true;
    NEED(attach(4) == 0);
    CHECK(target.connections == 1);
    CHECK(nbd_kernel_device(kernel, 1).connections == 1);
    CHECK((nbd_kernel_device(kernel, 1).flags & NBD_FLAG_READ_ONLY) != 0);
    CHECK(nbd_kernel_device(kernel, 1).backend[0] == '\0');
    export_server_wait_chosen(server, 1);
    /* It cannot be known whether that is still the same. */
    restart(script);
    CHECK(nbd_kernel_notice(kernel, 1, false) == 1);
    CHECK(restore() == -ESTALE);
    CHECK(nbd_kernel_device(kernel, 1).dead == 1);
    done();
}

TEST("a device whose content nobody knows is connected again if one insists")
{
    struct export_server_script script = export_server_good(SIZE);
    uint32_t taken;

    script.incarnation = NULL;
    NEED(begin(script));
    NEED(attach(1) == 0);
    restart(script);
    CHECK(nbd_kernel_notice(kernel, 1, false) == 1);
    CHECK(attach_restore(&host, &target, true, links, &taken, &failure) == 0);
    CHECK(taken == 1 && nbd_kernel_device(kernel, 1).dead == 0);
    done();
}

TEST("an export that does not fit the block size is not attached")
{
    struct export_server_script script = export_server_good(SIZE + 512);

    NEED(begin(script));
    CHECK(attach(1) == -EINVAL);
    CHECK(strstr(failure.text, "block size") != NULL);
    script.size = 0;
    export_server_change(server, script);
    CHECK(attach(1) == -EINVAL);
    script = export_server_good(SIZE);
    script.block_size_min = 8192;
    export_server_change(server, script);
    CHECK(attach(1) == -EINVAL);
    CHECK(!nbd_kernel_device(kernel, 1).is_configured);
    export_server_wait_chosen(server, 0);
    done();
}

TEST("what the kernel refuses is said, and no connection stays open")
{
    NEED(begin(export_server_good(SIZE)));
    nbd_kernel_fail_change(kernel, -EPERM);
    CHECK(attach(2) == -EPERM);
    CHECK(strstr(failure.text, "nbd1") != NULL);
    export_server_wait_chosen(server, 0);
    done();
}

TEST("connections that were lost are replaced, each that was and no other")
{
    NEED(begin(export_server_good(SIZE)));
    NEED(attach(3) == 0);
    CHECK(restore() == 0);
    CHECK(nbd_kernel_offers(kernel) == 0);
    restart(export_server_good(SIZE));
    /* The driver has not seen it yet: it takes none. */
    CHECK(restore() == 0);
    CHECK(nbd_kernel_offers(kernel) == 1);
    export_server_wait_chosen(server, 0);
    CHECK(nbd_kernel_notice(kernel, 1, false) == 3);
    CHECK(restore() == 3);
    CHECK(nbd_kernel_device(kernel, 1).dead == 0);
    export_server_wait_chosen(server, 3);
    CHECK(restore() == 0);
    done();
}

TEST("a device that others attached gets what it lacks, and no more")
{
    struct links *others;

    NEED(begin(export_server_good(SIZE)));
    NEED(attach(2) == 0);
    others = links;
    NEED(links_new(&links) == 0);
    CHECK(restore() == 0);
    CHECK(nbd_kernel_offers(kernel) == 1);
    export_server_wait_chosen(server, 2);
    restart(export_server_good(SIZE));
    CHECK(nbd_kernel_notice(kernel, 1, false) == 2);
    CHECK(restore() == 2);
    links_free(others);
    done();
}

TEST("another incarnation, a smaller size, a server that can do less: refused")
{
    struct export_server_script script = export_server_good(SIZE);

    NEED(begin(script));
    NEED(attach(1) == 0);
    script.incarnation = "0123456789abcdef-2";
    restart(script);
    CHECK(nbd_kernel_notice(kernel, 1, false) == 1);
    CHECK(restore() == -ESTALE);
    CHECK(strstr(failure.text, "nbd1") && strstr(failure.text, "cdef-2"));
    script = export_server_good(SIZE / 2);
    export_server_change(server, script);
    CHECK(restore() == -ESTALE);
    script = export_server_good(SIZE);
    script.flags &= (uint16_t)~NBD_FLAG_SEND_FUA;
    export_server_change(server, script);
    CHECK(restore() == -ESTALE);
    CHECK(nbd_kernel_offers(kernel) == 0);
    export_server_change(server, export_server_good(SIZE * 2));
    CHECK(restore() == 1);
    CHECK(nbd_kernel_device(kernel, 1).size == SIZE);
    done();
}

TEST("a server may be away for a while, a device is gone for good")
{
    NEED(begin(export_server_good(SIZE)));
    CHECK(restore() == -ENOTCONN);
    NEED(attach(1) == 0);
    export_server_kill(server);
    server = NULL;
    CHECK(restore() == -ENOENT);
    server = export_server_start(path, export_server_good(SIZE));
    nbd_kernel_detach(kernel, 1);
    CHECK(restore() == -ENOTCONN);
    done();
}

TEST("a device takes the size that its export has grown to")
{
    struct export_server_script script = export_server_good(SIZE * 2);
    uint64_t before, now;

    NEED(begin(export_server_good(SIZE)));
    CHECK(attach_resize(&host, &target, false, &before, &now, &failure) ==
          -ENOTCONN);
    NEED(attach(1) == 0);
    NEED(attach_resize(&host, &target, false, &before, &now, &failure) == 0);
    CHECK(before == SIZE && now == SIZE);
    export_server_change(server, script);
    NEED(attach_resize(&host, &target, false, &before, &now, &failure) == 0);
    CHECK(before == SIZE && now == SIZE * 2);
    CHECK(nbd_kernel_device(kernel, 1).size == SIZE * 2);
    CHECK(nbd_kernel_device(kernel, 1).dead == 0);
    export_server_change(server, export_server_good(SIZE));
    CHECK(attach_resize(&host, &target, false, &before, &now, &failure) ==
          -ESTALE);
    script.incarnation = "other";
    export_server_change(server, script);
    CHECK(attach_resize(&host, &target, false, &before, &now, &failure) ==
          -ESTALE);
    script = export_server_good(SIZE * 2 + 512);
    export_server_change(server, script);
    CHECK(attach_resize(&host, &target, false, &before, &now, &failure) ==
          -EINVAL);
    done();
}

TEST("a device of which nobody knows the server grows only if one does")
{
    uint64_t before, now;

    NEED(begin(export_server_good(SIZE * 2)));
    nbd_kernel_attach_foreign(kernel, 1, SIZE);
    CHECK(attach_resize(&host, &target, false, &before, &now, &failure) ==
          -ESTALE);
    CHECK(strstr(failure.text, "nobody knows") != NULL);
    CHECK(nbd_kernel_device(kernel, 1).size == SIZE);
    CHECK(attach_resize(&host, &target, true, &before, &now, &failure) == 0);
    CHECK(nbd_kernel_device(kernel, 1).size == SIZE * 2);
    done();
}

TEST("a device that somebody has open for a moment is not attached, and can be")
{
    NEED(begin(export_server_good(SIZE)));
    nbd_kernel_keep_open(kernel, 1, 7);
    CHECK(attach_check(&host, 1, &failure) == -ENOTCONN);
    CHECK(attach_detach(&host, 1, false, &failure) == -ENOTCONN);
    CHECK(restore() == -ENOTCONN);
    CHECK(attach(1) == 0);
    CHECK(attach_check(&host, 1, &failure) == 0);
    done();
}

TEST("requests are sent again soon where the timer does nothing else")
{
    NEED(begin(export_server_good(SIZE)));
    NEED(attach(2) == 0 && timer() == 30000);
    CHECK(attach_detach(&host, 1, false, &failure) == 0);
    NEED(attach(1) == 0 && timer() == 5000);
    CHECK(attach_detach(&host, 1, false, &failure) == 0);
    CHECK(timer() == 30000);
    target.timeout_s = 9;
    NEED(attach(1) == 0 && timer() == 30000);
    done();
}

/* What systemd calls for a watcher that runs, or has ended. */
static int stop_service(const char *result, bool has_ended)
{
    return attach_detach_service(&host, 1, false, result, has_ended, &failure);
}

TEST("a service that ends detaches its device, which may be so already, but "
     "not when only its watcher has failed")
{
    NEED(begin(export_server_good(SIZE)));
    NEED(attach(1) == 0);
    CHECK(stop_service("signal", true) == 0);
    CHECK(nbd_kernel_device(kernel, 1).is_configured);
    CHECK(stop_service("success", false) == 0);
    CHECK(!nbd_kernel_device(kernel, 1).is_configured);
    CHECK(stop_service("success", false) == 0);
    CHECK(attach_detach(&host, 1, false, &failure) == -ENOTCONN);
    nbd_kernel_fail_next(kernel, -EPERM);
    CHECK(stop_service("success", false) == -EPERM);
    done();
}

TEST("a device that others attached, after its watcher had found it detached, "
     "stays theirs when systemd ends the watcher's service")
{
    NEED(begin(export_server_good(SIZE)));
    NEED(attach(1) == 0);
    CHECK(attach_detach(&host, 1, false, &failure) == 0);
    NEED(attach(1) == 0);
    CHECK(stop_service("success", true) == 0);
    CHECK(nbd_kernel_device(kernel, 1).is_configured);
    done();
}

TEST("a device that is used is not detached, unless one insists")
{
    struct target kept;
    uint32_t alive, attached_by;

    NEED(begin(export_server_good(SIZE)));
    CHECK(attach_detach(&host, 1, false, &failure) == -ENOTCONN);
    NEED(attach(2) == 0);
    attached_by = nbd_kernel_device(kernel, 1).attached_by;
    nbd_kernel_write(kernel, "proc/self/mountinfo",
                     "23 22 43:32 / /mnt rw - ext4 /dev/nbd1 rw\n");
    CHECK(attach_detach(&host, 1, false, &failure) == -EBUSY);
    CHECK(strstr(failure.text, "/mnt") != NULL);
    CHECK(nbd_kernel_device(kernel, 1).is_configured);
    CHECK(attach_detach(&host, 1, true, &failure) == 0);
    CHECK(!nbd_kernel_device(kernel, 1).is_configured);
    CHECK(attach_state_load(state_dir, 1, attached_by, &kept, &alive) ==
          -ENOENT);
    nbd_kernel_write(kernel, "proc/self/mountinfo", "");
    NEED(attach(1) == 0);
    CHECK(attach_detach(&host, 1, false, &failure) == 0);
    export_server_wait_chosen(server, 0);
    done();
}
