/* SPDX-License-Identifier: BSD-2-Clause */
#include "attach/nbd_driver.h"

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include "support/nbd_kernel.h"
#include "unit/test.h"

static struct nbd_kernel *kernel;
static struct nbd_driver *driver;
static struct net_failure failure;

static bool begin(void)
{
    kernel = nbd_kernel_start(test_dir());
    return nbd_driver_open_over(nbd_kernel_open(kernel, true), &driver,
                                &failure) == 0;
}

static void done(void)
{
    nbd_driver_close(driver);
    nbd_kernel_stop(kernel);
}

static int connect_device(uint32_t index, const int fds[], size_t count)
{
    struct nbd_driver_config config = {
        .index = index,
        .size = 1 << 20,
        .block_size = 4096,
        .flags = 0x12d,
        .timeout_s = 5,
        .dead_timeout_s = 60,
        .backend = "disk@1",
        .fds = fds,
        .fds_count = count,
    };

    return nbd_driver_connect(driver, &config);
}

static void make_pair(int pair[2])
{
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
}

TEST("a device is attached with all that was said, listed, and detached")
{
    struct nbd_kernel_device told;
    int one[2], two[2];
    uint32_t *indexes;
    size_t count;
    bool is_configured;

    NEED(begin());
    make_pair(one);
    make_pair(two);
    CHECK(nbd_driver_is_configured(driver, 2, &is_configured) == 0);
    CHECK(!is_configured);
    CHECK(connect_device(2, (int[]){one[0], two[0]}, 2) == 0);
    CHECK(connect_device(2, (int[]){one[0]}, 1) == -EBUSY);
    CHECK(connect_device(0, (int[]){one[0]}, 1) == 0);
    told = nbd_kernel_device(kernel, 2);
    CHECK(told.size == 1 << 20 && told.block_size == 4096);
    CHECK(told.flags == 0x12d && told.connections == 2);
    CHECK(told.timeout_s == 5 && told.dead_timeout_s == 60);
    CHECK(strcmp(told.backend, "disk@1") == 0);
    CHECK(nbd_driver_is_configured(driver, 2, &is_configured) == 0);
    CHECK(is_configured);
    NEED(nbd_driver_list(driver, &indexes, &count) == 0);
    CHECK(count == 2 && indexes[0] == 0 && indexes[1] == 2);
    free(indexes);
    CHECK(nbd_driver_resize(driver, 2, "disk@1", 2 << 20) == 0);
    CHECK(nbd_kernel_device(kernel, 2).size == 2 << 20);
    CHECK(nbd_driver_disconnect(driver, 2) == 0);
    CHECK(!nbd_kernel_device(kernel, 2).is_configured);
    for (int i = 0; i < 2; i++) {
        (void)close(one[i]);
        (void)close(two[i]);
    }
    done();
}

TEST("connections are offered with the identifier, events tell of lost ones")
{
    int one[2], two[2];
    uint32_t index = 99;

    NEED(begin());
    make_pair(one);
    make_pair(two);
    NEED(connect_device(1, (int[]){one[0]}, 1) == 0);
    CHECK(nbd_driver_next_event(driver, &index) == -EAGAIN);
    (void)close(one[1]);
    CHECK(nbd_kernel_notice(kernel, 1, true) == 1);
    CHECK(nbd_driver_next_event(driver, &index) == 0 && index == 1);
    CHECK(nbd_driver_next_event(driver, &index) == -EAGAIN);
    CHECK(nbd_driver_offer(driver, 1, "disk@2", two[0]) == -EINVAL);
    CHECK(nbd_kernel_device(kernel, 1).dead == 1);
    CHECK(nbd_driver_offer(driver, 1, "disk@1", two[0]) == 0);
    CHECK(nbd_kernel_device(kernel, 1).dead == 0);
    CHECK(nbd_driver_offer(driver, 3, NULL, two[0]) == -EINVAL);
    (void)close(one[0]);
    (void)close(two[0]);
    (void)close(two[1]);
    done();
}

TEST("an event between question and answer is no answer")
{
    int one[2];
    bool is_configured = false;

    NEED(begin());
    make_pair(one);
    NEED(connect_device(1, (int[]){one[0]}, 1) == 0);
    (void)close(one[1]);
    CHECK(nbd_kernel_notice(kernel, 1, true) == 1);
    CHECK(nbd_driver_is_configured(driver, 1, &is_configured) == 0);
    CHECK(is_configured);
    (void)close(one[0]);
    done();
}

TEST("each call passes on what the kernel refuses")
{
    int one[2];
    uint32_t *indexes;
    size_t count;
    bool is_configured;

    NEED(begin());
    make_pair(one);
    nbd_kernel_fail_next(kernel, -EPERM);
    CHECK(connect_device(0, one, 1) == -EPERM);
    nbd_kernel_fail_next(kernel, -EPERM);
    CHECK(nbd_driver_offer(driver, 0, NULL, one[0]) == -EPERM);
    nbd_kernel_fail_next(kernel, -EPERM);
    CHECK(nbd_driver_resize(driver, 0, NULL, 1) == -EPERM);
    nbd_kernel_fail_next(kernel, -EPERM);
    CHECK(nbd_driver_disconnect(driver, 0) == -EPERM);
    nbd_kernel_fail_next(kernel, -ENOMEM);
    CHECK(nbd_driver_list(driver, &indexes, &count) == -ENOMEM);
    nbd_kernel_fail_next(kernel, -ENOMEM);
    CHECK(nbd_driver_is_configured(driver, 0, &is_configured) == -ENOMEM);
    (void)close(one[0]);
    (void)close(one[1]);
    done();
}

TEST("an identifier that is too long for a message is not cut")
{
    static char text[8000];
    int one[2];

    NEED(begin());
    make_pair(one);
    memset(text, 'x', sizeof(text) - 1);
    CHECK(nbd_driver_offer(driver, 0, text, one[0]) == -EMSGSIZE);
    (void)close(one[0]);
    (void)close(one[1]);
    done();
}

TEST("a peer that ends, or never answers the family, is an error in words")
{
    int pair[2];
    /* An error for the first question, which has the number 1. */
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
    } answer = {
        .head = {.nlmsg_len = sizeof(answer),
                 .nlmsg_type = NLMSG_ERROR,
                 .nlmsg_seq = 1},
        .error = {.error = -ENOENT},
    };

    NEED(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    NEED(send(pair[0], &answer, sizeof(answer), 0) == sizeof(answer));
    CHECK(nbd_driver_open_over(pair[1], &driver, &failure) == -ENODEV);
    CHECK(strstr(failure.text, "modprobe") != NULL);
    (void)close(pair[0]);

    NEED(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    answer.error.error = 0;
    NEED(send(pair[0], &answer, sizeof(answer), 0) == sizeof(answer));
    CHECK(nbd_driver_open_over(pair[1], &driver, &failure) == -EPROTO);
    (void)close(pair[0]);

    NEED(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    (void)close(pair[0]);
    CHECK(nbd_driver_open_over(pair[1], &driver, &failure) < 0);
}

TEST("this host's own netlink says whether the module is there")
{
    int error = nbd_driver_open(&driver, &failure);

    if (error == -EAFNOSUPPORT || error == -EPROTONOSUPPORT || error == -EPERM)
        SKIP("no netlink here");
    if (error == 0)
        nbd_driver_close(driver);
    CHECK(error == 0 || error == -ENODEV);
}
