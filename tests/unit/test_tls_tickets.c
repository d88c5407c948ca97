/* SPDX-License-Identifier: BSD-2-Clause */
#include "base/tls_tickets.h"

#include "unit/test.h"

/* Take one, and say whether it is this text (NULL: none). */
static bool takes(struct tls_tickets *tickets, const char *name,
                  const char *expected)
{
    size_t len = 1;
    char *bytes = tls_tickets_take(tickets, name, &len);
    bool is_right = expected ? bytes && len == strlen(expected) &&
                                   memcmp(bytes, expected, len) == 0
                             : !bytes && len == 0;

    tls_tickets_wipe(bytes, len);
    return is_right;
}

static void put(struct tls_tickets *tickets, const char *name, const char *text)
{
    tls_tickets_put(tickets, name, text, strlen(text));
}

TEST("each ticket is had once, by its own name, the newest first")
{
    struct tls_tickets *tickets = tls_tickets_new();

    NEED(tickets);
    CHECK(takes(tickets, "a", NULL));
    put(tickets, "a", "first");
    put(tickets, "b", "other");
    put(tickets, "a", "second");
    CHECK(takes(tickets, "A", NULL));
    CHECK(takes(tickets, "a", "second"));
    CHECK(takes(tickets, "a", "first"));
    CHECK(takes(tickets, "a", NULL));
    CHECK(takes(tickets, "b", "other"));
    CHECK(takes(tickets, "b", NULL));
    tls_tickets_free(tickets);
}

TEST("the oldest goes when there are too many, whosever it is")
{
    struct tls_tickets *tickets = tls_tickets_new();
    char text[16];

    NEED(tickets);
    put(tickets, "old", "1");
    put(tickets, "old", "2");
    for (int i = 0; i < TLS_TICKETS_MAX - 1; i++) {
        (void)snprintf(text, sizeof(text), "%d", i);
        put(tickets, "new", text);
    }
    CHECK(takes(tickets, "old", "2"));
    CHECK(takes(tickets, "old", NULL));
    for (int i = TLS_TICKETS_MAX - 2; i >= 0; i--) {
        (void)snprintf(text, sizeof(text), "%d", i);
        CHECK(takes(tickets, "new", text));
    }
    CHECK(takes(tickets, "new", NULL));
    tls_tickets_free(tickets);
}

TEST("what is empty or too long is not kept; what is left is freed")
{
    struct tls_tickets *tickets = tls_tickets_new();
    char *bytes = calloc(1, TLS_TICKET_BYTES + 1);
    size_t len;
    void *taken;

    NEED(tickets && bytes);
    tls_tickets_put(tickets, "a", bytes, 0);
    tls_tickets_put(tickets, "a", bytes, TLS_TICKET_BYTES + 1);
    CHECK(takes(tickets, "a", NULL));
    tls_tickets_put(tickets, "a", bytes, TLS_TICKET_BYTES);
    taken = tls_tickets_take(tickets, "a", &len);
    CHECK(taken && len == TLS_TICKET_BYTES);
    tls_tickets_wipe(taken, len);
    put(tickets, "a", "left behind");
    tls_tickets_free(tickets);
    tls_tickets_free(NULL);
    free(bytes);
}
