/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_tally.h"

#include <pthread.h>

#include "nbd/nbd_protocol.h"
#include "unit/test.h"

static struct nbd_tally tally;
static struct nbd_tally_sums sums;

static void get_sums(void)
{
    memset(&sums, 0, sizeof(sums));
    nbd_tally_add(&tally, &sums);
}

TEST("every command is counted as what it is, and timed if it is waited for")
{
    static const struct {
        uint16_t type;
        enum nbd_tally_operation operation;
    } cases[] = {
        {NBD_CMD_READ, NBD_TALLY_READ},
        {NBD_CMD_WRITE, NBD_TALLY_WRITE},
        {NBD_CMD_FLUSH, NBD_TALLY_FLUSH},
        {NBD_CMD_TRIM, NBD_TALLY_TRIM},
        {NBD_CMD_CACHE, NBD_TALLY_OTHER},
        {NBD_CMD_WRITE_ZEROES, NBD_TALLY_ZERO},
        {NBD_CMD_BLOCK_STATUS, NBD_TALLY_OTHER},
        {0xffff, NBD_TALLY_OTHER},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(&tally, 0, sizeof(tally));
        nbd_tally_count(&tally, cases[i].type, NBD_OK, 4096, 1000000);
        get_sums();
        for (size_t j = 0; j < NBD_TALLY_OPERATIONS; j++)
            CHECK(sums.requests[j] == (j == cases[i].operation));
        for (size_t j = 0; j < NBD_TALLY_TIMED; j++) {
            CHECK(sums.latencies[j].total == (j == cases[i].operation));
            CHECK(sums.time_ns[j] == (j == cases[i].operation ? 1000000 : 0));
        }
        CHECK(sums.bytes_read == (cases[i].type == NBD_CMD_READ ? 4096 : 0));
        CHECK(sums.bytes_written ==
              (cases[i].type == NBD_CMD_WRITE ? 4096 : 0));
    }
}

TEST("an error is counted by its kind, and moves no bytes")
{
    static const struct {
        uint32_t error;
        enum nbd_tally_error kind;
    } cases[] = {
        {NBD_EIO, NBD_TALLY_IO},          {NBD_ENOSPC, NBD_TALLY_SPACE},
        {NBD_EINVAL, NBD_TALLY_REFUSED},  {NBD_EPERM, NBD_TALLY_REFUSED},
        {NBD_ENOTSUP, NBD_TALLY_REFUSED}, {NBD_EOVERFLOW, NBD_TALLY_REFUSED},
        {NBD_ENOMEM, NBD_TALLY_ELSE},     {NBD_ESHUTDOWN, NBD_TALLY_ELSE},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        memset(&tally, 0, sizeof(tally));
        nbd_tally_count(&tally, NBD_CMD_WRITE, cases[i].error, 4096, 1);
        get_sums();
        for (size_t j = 0; j < NBD_TALLY_ERRORS; j++)
            CHECK(sums.errors[j] == (j == cases[i].kind));
        CHECK(sums.requests[NBD_TALLY_WRITE] == 1 && sums.bytes_written == 0);
    }
}

TEST("what the device has is in flight until it gives it back")
{
    memset(&tally, 0, sizeof(tally));
    nbd_tally_enter(&tally, 3);
    nbd_tally_leave(&tally);
    get_sums();
    CHECK(sums.in_flight == 2);
    nbd_tally_leave(&tally);
    nbd_tally_leave(&tally);
    get_sums();
    CHECK(sums.in_flight == 0);
}

TEST("latencies are those of a histogram")
{
    struct histogram expected = {.total = 0};
    uint64_t state = 88172645463325252U;

    memset(&tally, 0, sizeof(tally));
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t ns;

        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ns = state >> (state & 63);
        histogram_add(&expected, ns);
        nbd_tally_count(&tally, NBD_CMD_FLUSH, NBD_OK, 0, ns);
    }
    get_sums();
    CHECK(memcmp(&sums.latencies[NBD_TALLY_FLUSH], &expected,
                 sizeof(expected)) == 0);
}

static void *count_many(void *context)
{
    (void)context;
    for (unsigned i = 0; i < 20000; i++) {
        nbd_tally_enter(&tally, 1);
        nbd_tally_count(&tally, NBD_CMD_READ, NBD_OK, 2, i);
        nbd_tally_leave(&tally);
    }
    return NULL;
}

TEST("nothing is lost when many threads count at the same time")
{
    pthread_t threads[4];

    memset(&tally, 0, sizeof(tally));
    for (unsigned i = 0; i < 4; i++)
        NEED(pthread_create(&threads[i], NULL, count_many, NULL) == 0);
    for (unsigned i = 0; i < 4; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    get_sums();
    CHECK(sums.requests[NBD_TALLY_READ] == 80000);
    CHECK(sums.latencies[NBD_TALLY_READ].total == 80000);
    CHECK(sums.bytes_read == 160000 && sums.in_flight == 0);
}

TEST("what an ended connection counted is kept with others of its export")
{
    static struct nbd_tally other;

    memset(&tally, 0, sizeof(tally));
    for (unsigned i = 0; i < 3; i++) {
        nbd_tally_count(&tally, NBD_CMD_READ, NBD_OK, 4096, 5);
        nbd_tally_count(&other, NBD_CMD_READ, NBD_EIO, 4096, 5);
    }
    nbd_tally_count(&other, NBD_CMD_WRITE, NBD_OK, 512, 7);
    nbd_tally_move(&other, &tally);
    nbd_tally_move(&other, &tally);
    get_sums();
    CHECK(nbd_tally_requests(&sums) == 7 && nbd_tally_errors(&sums) == 3);
    CHECK(sums.bytes_read == 3 * 4096 && sums.bytes_written == 512);
    CHECK(sums.time_ns[NBD_TALLY_READ] == 30);
    CHECK(sums.latencies[NBD_TALLY_READ].total == 6);
    /* Sums of several add up. */
    nbd_tally_add(&tally, &sums);
    CHECK(nbd_tally_requests(&sums) == 14);
}
