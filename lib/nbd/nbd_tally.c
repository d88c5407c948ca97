/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every counter is changed with relaxed order: the numbers stand alone, and
 * nothing else is concluded from them.
 */
#include "nbd/nbd_tally.h"

#include "nbd/nbd_protocol.h"

static void add(_Atomic uint64_t *to, uint64_t number)
{
    (void)atomic_fetch_add_explicit(to, number, memory_order_relaxed);
}

static uint64_t load(_Atomic uint64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed);
}

void nbd_tally_enter(struct nbd_tally *tally, size_t count)
{
    add(&tally->in_flight, count);
}

void nbd_tally_leave(struct nbd_tally *tally)
{
    (void)atomic_fetch_sub_explicit(&tally->in_flight, 1, memory_order_relaxed);
}

static enum nbd_tally_operation operation_of(uint16_t type)
{
    switch (type) {
    case NBD_CMD_READ:
        return NBD_TALLY_READ;
    case NBD_CMD_WRITE:
        return NBD_TALLY_WRITE;
    case NBD_CMD_FLUSH:
        return NBD_TALLY_FLUSH;
    case NBD_CMD_TRIM:
        return NBD_TALLY_TRIM;
    case NBD_CMD_WRITE_ZEROES:
        return NBD_TALLY_ZERO;
    default:
        return NBD_TALLY_OTHER;
    }
}

static enum nbd_tally_error error_of(uint32_t error)
{
    switch (error) {
    case NBD_EIO:
        return NBD_TALLY_IO;
    case NBD_ENOSPC:
        return NBD_TALLY_SPACE;
    case NBD_EINVAL:
    case NBD_EPERM:
    case NBD_ENOTSUP:
    case NBD_EOVERFLOW:
        return NBD_TALLY_REFUSED;
    default:
        return NBD_TALLY_ELSE;
    }
}

void nbd_tally_count(struct nbd_tally *tally, uint16_t type, uint32_t error,
                     uint64_t length, uint64_t ns)
{
    enum nbd_tally_operation operation = operation_of(type);

    add(&tally->requests[operation], 1);
    if (error != NBD_OK)
        add(&tally->errors[error_of(error)], 1);
    else if (operation == NBD_TALLY_READ)
        add(&tally->bytes_read, length);
    else if (operation == NBD_TALLY_WRITE)
        add(&tally->bytes_written, length);
    if (operation < NBD_TALLY_TIMED) {
        add(&tally->time_ns[operation], ns);
        add(&tally->latencies[operation][histogram_bucket_of(ns)], 1);
    }
}

static void move_number(_Atomic uint64_t *from, _Atomic uint64_t *to)
{
    add(to, atomic_exchange_explicit(from, 0, memory_order_relaxed));
}

static void move_numbers(_Atomic uint64_t from[], _Atomic uint64_t to[],
                         size_t count)
{
    for (size_t i = 0; i < count; i++)
        move_number(&from[i], &to[i]);
}

void nbd_tally_move(struct nbd_tally *from, struct nbd_tally *to)
{
    move_numbers(from->requests, to->requests, NBD_TALLY_OPERATIONS);
    move_numbers(from->errors, to->errors, NBD_TALLY_ERRORS);
    move_numbers(from->time_ns, to->time_ns, NBD_TALLY_TIMED);
    move_number(&from->bytes_read, &to->bytes_read);
    move_number(&from->bytes_written, &to->bytes_written);
    for (size_t i = 0; i < NBD_TALLY_TIMED; i++)
        move_numbers(from->latencies[i], to->latencies[i], HISTOGRAM_BUCKETS);
}

/* Returns the sum of what was added. */
static uint64_t add_numbers(_Atomic uint64_t from[], uint64_t to[],
                            size_t count)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < count; i++) {
        uint64_t number = load(&from[i]);

        to[i] += number;
        sum += number;
    }
    return sum;
}

void nbd_tally_add(struct nbd_tally *tally, struct nbd_tally_sums *sums)
{
    (void)add_numbers(tally->requests, sums->requests, NBD_TALLY_OPERATIONS);
    (void)add_numbers(tally->errors, sums->errors, NBD_TALLY_ERRORS);
    (void)add_numbers(tally->time_ns, sums->time_ns, NBD_TALLY_TIMED);
    sums->bytes_read += load(&tally->bytes_read);
    sums->bytes_written += load(&tally->bytes_written);
    sums->in_flight += load(&tally->in_flight);
    for (size_t i = 0; i < NBD_TALLY_TIMED; i++)
        sums->latencies[i].total += add_numbers(
            tally->latencies[i], sums->latencies[i].counts, HISTOGRAM_BUCKETS);
}

uint64_t nbd_tally_requests(const struct nbd_tally_sums *sums)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < NBD_TALLY_OPERATIONS; i++)
        sum += sums->requests[i];
    return sum;
}

uint64_t nbd_tally_errors(const struct nbd_tally_sums *sums)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < NBD_TALLY_ERRORS; i++)
        sum += sums->errors[i];
    return sum;
}
