/* SPDX-License-Identifier: BSD-2-Clause */
#include "nbd/nbd_wire.h"

#include "unit/test.h"

static struct nbd_string string_of(const char *bytes, size_t len)
{
    return (struct nbd_string){bytes, len};
}

TEST("a string is text of its own length only")
{
    CHECK(nbd_string_is(string_of("abc", 3), "abc"));
    CHECK(!nbd_string_is(string_of("abc", 2), "abc"));
    CHECK(!nbd_string_is(string_of("abc", 3), "ab"));
    CHECK(!nbd_string_is(string_of("abc", 3), "abd"));
    CHECK(nbd_string_is(string_of("", 0), ""));
}

TEST("a valid string is UTF-8 without NUL, of at most 4096 bytes")
{
    static const char *const good[] = {"",
                                       "a",
                                       "\x7f",
                                       "\xc2\x80",
                                       "\xdf\xbf",
                                       "\xe0\xa0\x80",
                                       "\xed\x9f\xbf",
                                       "\xee\x80\x80",
                                       "\xef\xbf\xbf",
                                       "\xf0\x90\x80\x80",
                                       "\xf4\x8f\xbf\xbf",
                                       "gr\xc3\xbc\xc3\x9f"};
    static const char *const bad[] = {"\x80",
                                      "\xbf",
                                      "\xc0\x80",
                                      "\xc1\xbf",
                                      "\xc2",
                                      "\xc2\x41",
                                      "\xc2\xc2",
                                      "\xe0\x9f\xbf",
                                      "\xe0\xa0",
                                      "\xe1\x80\x41",
                                      "\xed\xa0\x80",
                                      "\xed\xbf\xbf",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf0\x90\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\xfe",
                                      "ok\xc3"};
    char *text = malloc(4097);

    NEED(text);
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        CHECK(nbd_string_is_valid(string_of(good[i], strlen(good[i]))));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        CHECK(!nbd_string_is_valid(string_of(bad[i], strlen(bad[i]))));
    CHECK(!nbd_string_is_valid(string_of("a\0b", 3)));
    memset(text, 'x', 4097);
    CHECK(nbd_string_is_valid(string_of(text, 4096)));
    CHECK(!nbd_string_is_valid(string_of(text, 4097)));
    free(text);
}

TEST("the greeting, an option's head and an answer's have the bytes of the "
     "specification")
{
    uint8_t bytes[32];
    struct nbd_option option;

    CHECK(nbd_put_greeting(bytes, 3) == 18);
    CHECK(memcmp(bytes, "NBDMAGICIHAVEOPT\0\3", 18) == 0);
    CHECK(nbd_get_option((const uint8_t *)"IHAVEOPT\1\2\3\4\5\6\7\10",
                         &option) == 0);
    CHECK(option.option == 0x01020304 && option.len == 0x05060708);
    CHECK(nbd_get_option((const uint8_t *)"IHAVEOPS\0\0\0\0\0\0\0\0",
                         &option) == -EPROTO);
    CHECK(nbd_put_option_reply(bytes, 7, NBD_REP_ERR_UNKNOWN, 0x1234) == 20);
    CHECK(memcmp(bytes,
                 "\0\3\xe8\x89\4\x55\x65\xa9\0\0\0\7\x80\0\0\6\0\0\x12\x34",
                 20) == 0);
}

TEST("INFO is read when all its lengths agree, and else is invalid")
{
    static const uint8_t good[] = "\0\0\0\4name\0\2\0\1\0\3";
    struct nbd_info_request request;

    CHECK(nbd_get_info_request(good, 14, &request) == 0);
    CHECK(nbd_string_is(request.name, "name"));
    CHECK(request.count == 2);
    CHECK(nbd_info_request_has(&request, 1));
    CHECK(nbd_info_request_has(&request, 3));
    CHECK(!nbd_info_request_has(&request, 0));
    for (size_t len = 0; len < 14; len++)
        CHECK(nbd_get_info_request(good, len, &request) == -EINVAL);
    CHECK(nbd_get_info_request(good, 15, &request) == -EINVAL);
    CHECK(nbd_get_info_request((const uint8_t *)"\0\0\0\0\0\0", 6, &request) ==
          0);
    CHECK(request.name.len == 0 && request.count == 0);
    CHECK(!nbd_info_request_has(&request, 0));
}

TEST("a context option is read with its queries, and invalid at every cut")
{
    static const uint8_t good[] =
        "\0\0\0\1e\0\0\0\3\0\0\0\2ab\0\0\0\0\0\0\0\1c";
    const size_t good_len = sizeof(good) - 1;
    struct nbd_context_request request;
    struct nbd_string query;

    CHECK(nbd_get_context_request(good, good_len, &request) == 0);
    CHECK(nbd_string_is(request.name, "e") && request.count == 3);
    CHECK(nbd_next_query(&request, &query) && nbd_string_is(query, "ab"));
    CHECK(nbd_next_query(&request, &query) && nbd_string_is(query, ""));
    CHECK(nbd_next_query(&request, &query) && nbd_string_is(query, "c"));
    CHECK(!nbd_next_query(&request, &query));
    for (size_t len = 0; len < good_len; len++)
        CHECK(nbd_get_context_request(good, len, &request) == -EINVAL);
    CHECK(nbd_get_context_request(good, good_len + 1, &request) == -EINVAL);
}

TEST("information and the answer to EXPORT_NAME have the bytes of the "
     "specification")
{
    uint8_t bytes[140];

    memset(bytes, 0xee, sizeof(bytes));
    CHECK(nbd_put_info_export(bytes, 0x0102030405060708, 0x0a0b) == 12);
    CHECK(memcmp(bytes, "\0\0\1\2\3\4\5\6\7\10\12\13", 12) == 0);
    CHECK(nbd_put_info_block_size(bytes, 1, 4096, 32 << 20) == 14);
    CHECK(memcmp(bytes, "\0\3\0\0\0\1\0\0\x10\0\2\0\0\0", 14) == 0);
    CHECK(nbd_put_export(bytes, 512, 3, false) == 10);
    CHECK(memcmp(bytes, "\0\0\0\0\0\0\2\0\0\3", 10) == 0 && bytes[14] == 0xee);
    CHECK(nbd_put_export(bytes, 512, 3, true) == 134);
    for (size_t i = 10; i < 134; i++)
        CHECK(bytes[i] == 0);
    CHECK(bytes[134] == 0xee);
}

TEST("requests are read in both forms, and each only with its own magic")
{
    static const uint8_t compact[] =
        "\x25\x60\x95\x13\0\1\0\2\1\2\3\4\5\6\7\10\x11\x12\x13\x14\x15\x16\x17"
        "\x18\xff\xff\xff\xfe";
    static const uint8_t extended[] =
        "\x21\xe4\x1c\x71\0\1\0\2\1\2\3\4\5\6\7\10\x11\x12\x13\x14\x15\x16\x17"
        "\x18\x21\x22\x23\x24\x25\x26\x27\x28";
    uint8_t again[32];
    struct nbd_request request;

    CHECK(nbd_request_size(false) == 28 && nbd_request_size(true) == 32);
    CHECK(nbd_get_request(compact, false, &request) == 0);
    CHECK(request.flags == 1 && request.type == 2);
    CHECK(request.cookie == 0x0102030405060708);
    CHECK(request.offset == 0x1112131415161718);
    CHECK(request.length == 0xfffffffe);
    CHECK(nbd_get_request(extended, true, &request) == 0);
    CHECK(request.length == 0x2122232425262728);
    CHECK(nbd_put_request(again, true, &request) == 32);
    CHECK(memcmp(again, extended, 32) == 0);
    CHECK(nbd_get_request(compact, false, &request) == 0);
    CHECK(nbd_put_request(again, false, &request) == 28);
    CHECK(memcmp(again, compact, 28) == 0);
    CHECK(nbd_get_request(compact, true, &request) == -EPROTO);
    CHECK(nbd_get_request(extended, false, &request) == -EPROTO);
}

TEST("replies, chunks, errors and extents have the bytes of the "
     "specification")
{
    const struct nbd_chunk chunk = {1, 5, 0x0102030405060708, 0x11, 0x22};
    uint8_t bytes[5000];
    char *text = malloc(5001);

    NEED(text);
    CHECK(nbd_put_simple_reply(bytes, NBD_EIO, 0x0102030405060708) == 16);
    CHECK(memcmp(bytes, "\x67\x44\x66\x98\0\0\0\5\1\2\3\4\5\6\7\10", 16) == 0);
    CHECK(nbd_put_chunk(bytes, false, &chunk) == 20);
    CHECK(memcmp(bytes, "\x66\x8e\x33\xef\0\1\0\5\1\2\3\4\5\6\7\10\0\0\0\x22",
                 20) == 0);
    CHECK(nbd_put_chunk(bytes, true, &chunk) == 32);
    CHECK(memcmp(bytes,
                 "\x6e\x8a\x27\x8c\0\1\0\5\1\2\3\4\5\6\7\10\0\0\0\0\0\0\0\x11"
                 "\0\0\0\0\0\0\0\x22",
                 32) == 0);
    CHECK(nbd_put_error(bytes, NBD_ENOSPC, "full") == 10);
    CHECK(memcmp(bytes, "\0\0\0\x1c\0\4full", 10) == 0);
    memset(text, 't', 5000);
    text[5000] = '\0';
    CHECK(nbd_put_error(bytes, NBD_ENOSPC, text) == 6 + 4096);
    CHECK(nbd_put_extent(bytes, false, 0xfffffe00, 3) == 8);
    CHECK(memcmp(bytes, "\xff\xff\xfe\0\0\0\0\3", 8) == 0);
    CHECK(nbd_put_extent(bytes, true, UINT64_C(1) << 40, 2) == 16);
    CHECK(memcmp(bytes, "\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\2", 16) == 0);
    free(text);
}
