/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_inbox.h"

#include "nbd/nbd_protocol.h"
#include "unit/test.h"

static void ignore(struct nbd_memory_waiter *waiter)
{
    (void)waiter;
}

struct fixture {
    struct nbd_memory *memory;
    struct nbd_share share;
    struct nbd_inbox inbox;
};

static void init(struct fixture *fixture)
{
    if (nbd_memory_new(64 << 20, &fixture->memory) < 0)
        abort();
    nbd_share_init(&fixture->share, fixture->memory, ignore);
    if (nbd_inbox_init(&fixture->inbox, &fixture->share) < 0)
        abort();
}

static void done(struct fixture *fixture)
{
    nbd_inbox_done(&fixture->inbox);
    CHECK(atomic_load(&fixture->share.own_used) == 0);
    CHECK(!nbd_share_is_used(&fixture->share));
    nbd_memory_free(fixture->memory);
}

/* Receive len bytes of this value. */
static bool receive(struct fixture *fixture, int value, size_t len)
{
    uint8_t *to;
    size_t room;

    if (nbd_inbox_room(&fixture->inbox, &to, &room) < 0 || room < len)
        return false;
    memset(to, value, len);
    nbd_inbox_received(&fixture->inbox, len);
    return true;
}

TEST("what was received is there until it is taken, and then room is again")
{
    struct fixture fixture;
    size_t len, room;
    uint8_t *to, *bytes;

    init(&fixture);
    CHECK(receive(&fixture, 'a', 10) && receive(&fixture, 'b', 5));
    bytes = nbd_inbox_bytes(&fixture.inbox, &len);
    CHECK(len == 15 && memcmp(bytes, "aaaaaaaaaabbbbb", 15) == 0);
    nbd_inbox_take(&fixture.inbox, 10);
    bytes = nbd_inbox_bytes(&fixture.inbox, &len);
    CHECK(len == 5 && memcmp(bytes, "bbbbb", 5) == 0);
    nbd_inbox_take(&fixture.inbox, 5);
    CHECK(nbd_inbox_room(&fixture.inbox, &to, &room) == 0);
    CHECK(room == NBD_INBOX_SIZE);
    done(&fixture);
}

TEST("there is always room to complete the largest request that is used in "
     "place, wherever it begins")
{
    const size_t whole = NBD_EXTENDED_REQUEST_SIZE + NBD_INBOX_IN_PLACE_MAX;

    for (size_t start = 0; start < NBD_INBOX_SIZE; start += 4093) {
        for (size_t part = 0; part < whole; part += whole - 1) {
            struct fixture fixture;
            size_t len, room;
            uint8_t *to, *bytes;

            if (start + part > NBD_INBOX_SIZE)
                continue;
            init(&fixture);
            CHECK(receive(&fixture, 'x', start + part));
            nbd_inbox_take(&fixture.inbox, start);
            CHECK(nbd_inbox_room(&fixture.inbox, &to, &room) == 0);
            bytes = nbd_inbox_bytes(&fixture.inbox, &len);
            CHECK(len == part && len + room >= whole);
            CHECK(to == bytes + len);
            CHECK(len == 0 || (bytes[0] == 'x' && bytes[len - 1] == 'x'));
            done(&fixture);
        }
    }
}

TEST("bytes that somebody holds stay where and what they are, however much is "
     "received meanwhile")
{
    struct fixture fixture;
    struct nbd_input *held[8];
    uint8_t *places[8];
    size_t len;

    init(&fixture);
    for (int i = 0; i < 8; i++) {
        CHECK(receive(&fixture, 'A' + i, 60000));
        places[i] = nbd_inbox_bytes(&fixture.inbox, &len);
        held[i] = nbd_inbox_hold(&fixture.inbox);
        nbd_inbox_take(&fixture.inbox, 60000);
    }
    for (int i = 0; i < 8; i++) {
        for (size_t j = 0; j < 60000; j++) {
            if (places[i][j] != 'A' + i) {
                CHECK(places[i][j] == 'A' + i);
                break;
            }
        }
        nbd_input_release(&fixture.share, held[i]);
    }
    nbd_input_release(&fixture.share, NULL);
    done(&fixture);
}

TEST("when all memory is held there is no room, and after a release there is")
{
    struct fixture fixture;
    struct nbd_input *held[2000];
    size_t count = 0;
    uint8_t *to;
    size_t room;

    init(&fixture);
    while (count < 2000 && receive(&fixture, 'h', 60000)) {
        held[count++] = nbd_inbox_hold(&fixture.inbox);
        nbd_inbox_take(&fixture.inbox, 60000);
    }
    CHECK(nbd_inbox_room(&fixture.inbox, &to, &room) == -EAGAIN);
    CHECK(count > 100 && count < 2000);
    while (count > 0)
        nbd_input_release(&fixture.share, held[--count]);
    CHECK(nbd_inbox_room(&fixture.inbox, &to, &room) == 0);
    done(&fixture);
}
