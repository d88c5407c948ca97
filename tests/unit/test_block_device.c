/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/block_device.h"

#include "support/nbd_kernel.h"
#include "unit/test.h"

/* The stand-in for the kernel makes the files, which tests then change. */
static struct nbd_kernel *kernel;
static const char *root;
static struct net_failure failure;

static void begin(void)
{
    root = test_dir();
    kernel = nbd_kernel_start(root);
}

static int check_unused(void)
{
    failure.text[0] = '\0';
    return block_device_check_unused(root, 0, &failure);
}

static bool is_used(const char *word)
{
    return check_unused() == -EBUSY && strstr(failure.text, word) != NULL;
}

TEST("a device is what its files say")
{
    struct block_device device;

    begin();
    nbd_kernel_write(kernel, "sys/block/nbd0/size", "2048\n");
    nbd_kernel_write(kernel, "sys/block/nbd0/queue/write_cache",
                     "write back\n");
    nbd_kernel_write(kernel, "sys/block/nbd0/queue/fua", "1\n");
    NEED(block_device_read(root, 0, &device) == 0);
    CHECK(device.size == 1 << 20 && device.flushes && device.fua);
    CHECK(!device.trims && !device.is_read_only && device.backend[0] == '\0');
    nbd_kernel_write(kernel, "sys/block/nbd0/backend", "disk@1\n");
    nbd_kernel_write(kernel, "sys/block/nbd0/ro", "1\n");
    nbd_kernel_write(kernel, "sys/block/nbd0/queue/write_cache",
                     "write through\n");
    nbd_kernel_write(kernel, "sys/block/nbd0/queue/discard_max_bytes",
                     "2199023255040\n");
    NEED(block_device_read(root, 0, &device) == 0);
    CHECK(!device.flushes && device.trims && device.is_read_only);
    CHECK(strcmp(device.backend, "disk@1") == 0);
    nbd_kernel_write(kernel, "sys/block/nbd0/size", "many\n");
    CHECK(block_device_read(root, 0, &device) == -EINVAL);
    nbd_kernel_write(kernel, "sys/block/nbd0/size", "18446744073709551615\n");
    CHECK(block_device_read(root, 0, &device) == -ERANGE);
    CHECK(block_device_read(root, 99, &device) == -ENOENT);
    nbd_kernel_stop(kernel);
}

TEST("a device that nobody has is unused")
{
    begin();
    CHECK(check_unused() == 0);
    CHECK(block_device_check_unused(root, 99, &failure) == -ENOENT);
    nbd_kernel_stop(kernel);
}

TEST("a mounted device is found by its number, or by its name")
{
    begin();
    nbd_kernel_write(kernel, "proc/self/mountinfo",
                     "22 1 254:0 / / rw - ext4 /dev/vda rw\n"
                     "23 22 43:0 / /mnt/vol rw,noatime shared:2 - ext4 "
                     "/dev/nbd0 rw\n");
    CHECK(is_used("/mnt/vol"));
    nbd_kernel_write(kernel, "proc/self/mountinfo",
                     "23 22 0:40 / /mnt/btr rw - btrfs /dev/nbd0 rw\n");
    CHECK(is_used("/mnt/btr"));
    nbd_kernel_write(kernel, "proc/self/mountinfo",
                     "23 22 43:32 / /mnt rw - ext4 /dev/nbd1 rw\n"
                     "24 22 43:01 / /mnt rw - ext4 /dev/nbd01 rw\n"
                     "\n"
                     "junk\n");
    CHECK(check_unused() == 0);
    nbd_kernel_stop(kernel);
}

TEST("a device on top of a partition is a use")
{
    begin();
    nbd_kernel_write(kernel, "sys/block/nbd0/nbd0p1/dev", "43:1\n");
    nbd_kernel_write(kernel, "sys/block/nbd0/nbd0p1/holders/dm-0", "");
    CHECK(is_used("dm-0"));
    nbd_kernel_stop(kernel);
}

TEST("what cannot be looked at is not said to be unused")
{
    begin();
    nbd_kernel_write(kernel, "sys/block/nbd0/nbd0p1/dev", "43:1\n");
    nbd_kernel_write(kernel, "sys/block/nbd0/nbd0p1/holders", "");
    CHECK(check_unused() == -ENOTDIR);
    nbd_kernel_stop(kernel);
}

TEST("swap, and a device on top, are uses")
{
    begin();
    nbd_kernel_write(kernel, "proc/swaps",
                     "Filename\tType\n/dev/nbd0 partition 1 2 3\n");
    CHECK(is_used("swap"));
    nbd_kernel_write(kernel, "proc/swaps", "/dev/nbd1 partition\n");
    CHECK(check_unused() == 0);
    nbd_kernel_write(kernel, "sys/block/nbd0/holders/md0", "");
    CHECK(is_used("md0"));
    nbd_kernel_stop(kernel);
}

TEST("a partition's mount is found by its own number")
{
    begin();
    nbd_kernel_write(kernel, "sys/block/nbd0/nbd0p1/dev", "43:1\n");
    nbd_kernel_write(kernel, "sys/block/nbd0/nbd0p1/holders/x", "");
    nbd_kernel_write(kernel, "proc/self/mountinfo",
                     "23 22 43:1 / /srv rw - ext4 /dev/nbd0p1 rw\n");
    CHECK(is_used("/srv"));
    nbd_kernel_stop(kernel);
}

TEST("the timer is written where the kernel reads it")
{
    char path[300], text[16] = "";
    FILE *file;

    begin();
    CHECK(block_device_set_timer(root, 99, 5000) == -ENOENT);
    CHECK(block_device_set_timer(root, 0, 50000) == 0);
    (void)snprintf(path, sizeof(path), "%s/sys/block/nbd0/queue/io_timeout",
                   root);
    file = fopen(path, "re");
    NEED(file && fgets(text, sizeof(text), file));
    (void)fclose(file);
    CHECK(strncmp(text, "50000", 5) == 0);
    nbd_kernel_stop(kernel);
}
