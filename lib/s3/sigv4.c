/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/sigv4.h"

#include <nettle/base64.h>
#include <nettle/hmac.h>
#include <nettle/md5.h>
#include <nettle/sha2.h>

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char algorithm[] = "AWS4-HMAC-SHA256";
static const char terminator[] = "aws4_request";

enum {
    DATE_LEN = 16, /* 20130524T000000Z */
    DAY_LEN = 8,
    NAMES_TEXT = 1024, /* of all signed fields, with ";" between */
    SCOPE_TEXT = 256,
};

/* A text that grows in a buffer, and may turn out not to fit. */
struct text {
    char *bytes;
    size_t size;
    size_t len; /* also what would have been beyond size */
};

static void text_add(struct text *text, char c)
{
    if (text->len < text->size)
        text->bytes[text->len] = c;
    text->len++;
}

/* Returns the length; the text is complete if that is less than its size. */
static size_t text_end(struct text *text)
{
    if (text->len < text->size)
        text->bytes[text->len] = '\0';
    return text->len;
}

/* ---- encoding ----------------------------------------------------------- */

static bool is_unreserved(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || c == '-' || c == '_' || c == '.' ||
           c == '~';
}

static void text_add_encoded(struct text *text, const char *raw, size_t len,
                             bool is_path)
{
    static const char digits[] = "0123456789ABCDEF";

    for (size_t i = 0; i < len; i++) {
        if (is_unreserved(raw[i]) || (is_path && raw[i] == '/')) {
            text_add(text, raw[i]);
        } else {
            text_add(text, '%');
            text_add(text, digits[(unsigned char)raw[i] >> 4]);
            text_add(text, digits[(unsigned char)raw[i] & 15]);
        }
    }
}

size_t sigv4_encode(const char *raw, size_t len, bool is_path, char *text,
                    size_t room)
{
    struct text encoded = {text, room, 0};

    text_add_encoded(&encoded, raw, len, is_path);
    return text_end(&encoded);
}

/* As strcmp of the two texts encoded for a query. */
static int compare_encoded(const char *a, const char *b)
{
    char first_a, first_b;

    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    if (*a == '\0' || *b == '\0')
        return (*a != '\0') - (*b != '\0');
    first_a = is_unreserved(*a) ? *a : '%';
    first_b = is_unreserved(*b) ? *b : '%';
    if (first_a != first_b)
        return first_a - first_b;
    return (unsigned char)*a - (unsigned char)*b;
}

static int compare_parameters(const struct sigv4_pair *a,
                              const struct sigv4_pair *b)
{
    int order = compare_encoded(a->name, b->name);

    return order != 0 ? order : compare_encoded(a->value, b->value);
}

/* Sort a few, keeping the order of those that compare equal. */
static void sort_pairs(const struct sigv4_pair *pairs, size_t count,
                       const struct sigv4_pair *sorted[],
                       int (*compare)(const struct sigv4_pair *a,
                                      const struct sigv4_pair *b))
{
    for (size_t i = 0; i < count; i++) {
        size_t at = i;

        for (; at > 0 && compare(sorted[at - 1], &pairs[i]) > 0; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = &pairs[i];
    }
}

size_t sigv4_query(const struct sigv4_pair *parameters, size_t count,
                   char *text, size_t room)
{
    const struct sigv4_pair *sorted[SIGV4_PARAMETERS_MAX];
    struct text query = {text, room, 0};

    assert(count <= SIGV4_PARAMETERS_MAX);
    sort_pairs(parameters, count, sorted, compare_parameters);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            text_add(&query, '&');
        text_add_encoded(&query, sorted[i]->name, strlen(sorted[i]->name),
                         false);
        text_add(&query, '=');
        text_add_encoded(&query, sorted[i]->value, strlen(sorted[i]->value),
                         false);
    }
    return text_end(&query);
}

/* ---- hashes ------------------------------------------------------------- */

static void to_hex(const uint8_t hash[SHA256_DIGEST_SIZE],
                   char hex[SIGV4_HASH_TEXT])
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < SHA256_DIGEST_SIZE; i++) {
        hex[2 * i] = digits[hash[i] >> 4];
        hex[2 * i + 1] = digits[hash[i] & 15];
    }
    hex[SIGV4_HASH_TEXT - 1] = '\0';
}

static void hash_text(struct sha256_ctx *hash, const char *text)
{
    sha256_update(hash, strlen(text), (const uint8_t *)text);
}

static void hash_end(struct sha256_ctx *hash, char hex[SIGV4_HASH_TEXT])
{
    uint8_t digest[SHA256_DIGEST_SIZE];

    sha256_digest(hash, sizeof(digest), digest);
    to_hex(digest, hex);
}

void sigv4_hash(const void *data, size_t len, char hex[SIGV4_HASH_TEXT])
{
    struct sha256_ctx hash;

    sha256_init(&hash);
    sha256_update(&hash, len, data);
    hash_end(&hash, hex);
}

void sigv4_md5(const void *data, size_t len, char base64[SIGV4_MD5_TEXT])
{
    struct md5_ctx hash;
    uint8_t digest[MD5_DIGEST_SIZE];

    _Static_assert(BASE64_ENCODE_RAW_LENGTH(MD5_DIGEST_SIZE) ==
                       SIGV4_MD5_TEXT - 1,
                   "a digest of MD5 in base64 has that length");
    md5_init(&hash);
    md5_update(&hash, len, data);
    md5_digest(&hash, sizeof(digest), digest);
    base64_encode_raw(base64, sizeof(digest), digest);
    base64[SIGV4_MD5_TEXT - 1] = '\0';
}

/* ---- the canonical request ---------------------------------------------- */

static char to_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

/* By name, without regard to case. */
static int compare_fields(const struct sigv4_pair *a,
                          const struct sigv4_pair *b)
{
    const char *name_a = a->name, *name_b = b->name;

    while (*name_a != '\0' && to_lower(*name_a) == to_lower(*name_b)) {
        name_a++;
        name_b++;
    }
    return (unsigned char)to_lower(*name_a) - (unsigned char)to_lower(*name_b);
}

/* Whether sorted[i] has the same name as the one before it. */
static bool is_repeated(const struct sigv4_pair *const sorted[], size_t i)
{
    return i > 0 && compare_fields(sorted[i - 1], sorted[i]) == 0;
}

/* Write the names of the signed fields; whether they fit. */
static bool list_names(const struct sigv4_pair *const sorted[], size_t count,
                       char list[NAMES_TEXT])
{
    struct text text = {list, NAMES_TEXT, 0};

    for (size_t i = 0; i < count; i++) {
        if (is_repeated(sorted, i))
            continue;
        if (i > 0)
            text_add(&text, ';');
        for (const char *c = sorted[i]->name; *c != '\0'; c++)
            text_add(&text, to_lower(*c));
    }
    return text_end(&text) < NAMES_TEXT;
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Add the words of the value, with one space between. */
static void hash_value(struct sha256_ctx *hash, const char *value)
{
    const char *separator = "";

    for (;;) {
        size_t len = 0;

        while (is_blank(*value))
            value++;
        while (value[len] != '\0' && !is_blank(value[len]))
            len++;
        if (len == 0)
            return;
        hash_text(hash, separator);
        sha256_update(hash, len, (const uint8_t *)value);
        value += len;
        separator = " ";
    }
}

static void hash_name(struct sha256_ctx *hash, const char *name)
{
    for (; *name != '\0'; name++) {
        uint8_t c = (uint8_t)to_lower(*name);

        sha256_update(hash, 1, &c);
    }
}

/* A line for each name; the values of equal names are joined. */
static void hash_fields(struct sha256_ctx *hash,
                        const struct sigv4_pair *const sorted[], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (is_repeated(sorted, i)) {
            hash_text(hash, ",");
        } else {
            hash_text(hash, i > 0 ? "\n" : "");
            hash_name(hash, sorted[i]->name);
            hash_text(hash, ":");
        }
        hash_value(hash, sorted[i]->value);
    }
    hash_text(hash, count > 0 ? "\n" : "");
}

static void hash_request(const struct sigv4_request *request,
                         const struct sigv4_pair *const sorted[],
                         const char *names, char hex[SIGV4_HASH_TEXT])
{
    struct sha256_ctx hash;

    sha256_init(&hash);
    hash_text(&hash, request->method);
    hash_text(&hash, "\n");
    sha256_update(&hash, request->path_len, (const uint8_t *)request->path);
    hash_text(&hash, "\n");
    sha256_update(&hash, request->query_len, (const uint8_t *)request->query);
    hash_text(&hash, "\n");
    hash_fields(&hash, sorted, request->field_count);
    hash_text(&hash, "\n");
    hash_text(&hash, names);
    hash_text(&hash, "\n");
    hash_text(&hash, request->payload_hash);
    hash_end(&hash, hex);
}

/* ---- the signature ------------------------------------------------------ */

static void hmac(const uint8_t *key, size_t key_len, const char *data,
                 size_t len, uint8_t digest[SHA256_DIGEST_SIZE])
{
    struct hmac_sha256_ctx context;

    hmac_sha256_set_key(&context, key_len, key);
    hmac_sha256_update(&context, len, (const uint8_t *)data);
    hmac_sha256_digest(&context, SHA256_DIGEST_SIZE, digest);
    explicit_bzero(&context, sizeof(context));
}

static void derive_key(const struct sigv4_request *request, const char *secret,
                       uint8_t key[SHA256_DIGEST_SIZE])
{
    uint8_t start[4 + SIGV4_SECRET_MAX];
    size_t len = strlen(secret);

    memcpy(start, "AWS4", 4);
    memcpy(start + 4, secret, len);
    hmac(start, 4 + len, request->date, DAY_LEN, key);
    explicit_bzero(start, sizeof(start));
    hmac(key, SHA256_DIGEST_SIZE, request->region, strlen(request->region),
         key);
    hmac(key, SHA256_DIGEST_SIZE, request->service, strlen(request->service),
         key);
    hmac(key, SHA256_DIGEST_SIZE, terminator, strlen(terminator), key);
}

/* Make sure that the key is that of this secret, day, region and service. */
static void update_key(const struct sigv4_request *request, const char *secret,
                       struct sigv4_key *key)
{
    uint8_t made_of[SHA256_DIGEST_SIZE];
    struct sha256_ctx hash;

    _Static_assert(sizeof(made_of) == sizeof(key->made_of) &&
                       sizeof(made_of) == sizeof(key->key),
                   "the header does not know nettle");
    sha256_init(&hash);
    sha256_update(&hash, strlen(secret) + 1, (const uint8_t *)secret);
    sha256_update(&hash, DAY_LEN, (const uint8_t *)request->date);
    sha256_update(&hash, strlen(request->region) + 1,
                  (const uint8_t *)request->region);
    sha256_update(&hash, strlen(request->service) + 1,
                  (const uint8_t *)request->service);
    sha256_digest(&hash, sizeof(made_of), made_of);
    explicit_bzero(&hash, sizeof(hash));
    if (memcmp(key->made_of, made_of, sizeof(made_of)) == 0)
        return;
    derive_key(request, secret, key->key);
    memcpy(key->made_of, made_of, sizeof(made_of));
}

static bool is_date(const char *date)
{
    return strnlen(date, DATE_LEN + 1) == DATE_LEN && date[DAY_LEN] == 'T' &&
           date[DATE_LEN - 1] == 'Z';
}

int sigv4_sign(const struct sigv4_request *request,
               const struct sigv4_credentials *credentials,
               struct sigv4_key *key,
               char ret_authorization[SIGV4_AUTHORIZATION_TEXT])
{
    const struct sigv4_pair *sorted[SIGV4_FIELDS_MAX];
    char names[NAMES_TEXT], scope[SCOPE_TEXT];
    char request_hash[SIGV4_HASH_TEXT], signature[SIGV4_HASH_TEXT];
    char string_to_sign[SCOPE_TEXT + SIGV4_HASH_TEXT + 64];
    uint8_t digest[SHA256_DIGEST_SIZE];
    int len;

    if (!is_date(request->date))
        return -EINVAL;
    if (request->field_count > SIGV4_FIELDS_MAX ||
        strnlen(credentials->secret_key, SIGV4_SECRET_MAX + 1) >
            SIGV4_SECRET_MAX)
        return -EMSGSIZE;
    len =
        snprintf(scope, sizeof(scope), "%.*s/%s/%s/%s", DAY_LEN, request->date,
                 request->region, request->service, terminator);
    if (len < 0 || (size_t)len >= sizeof(scope))
        return -EMSGSIZE;
    sort_pairs(request->fields, request->field_count, sorted, compare_fields);
    if (!list_names(sorted, request->field_count, names))
        return -EMSGSIZE;
    hash_request(request, sorted, names, request_hash);
    len = snprintf(string_to_sign, sizeof(string_to_sign), "%s\n%s\n%s\n%s",
                   algorithm, request->date, scope, request_hash);
    assert(len > 0 && (size_t)len < sizeof(string_to_sign));
    update_key(request, credentials->secret_key, key);
    hmac(key->key, sizeof(key->key), string_to_sign, (size_t)len, digest);
    to_hex(digest, signature);
    len = snprintf(ret_authorization, SIGV4_AUTHORIZATION_TEXT,
                   "%s Credential=%s/%s, SignedHeaders=%s, Signature=%s",
                   algorithm, credentials->access_key, scope, names, signature);
    return len >= 0 && len < SIGV4_AUTHORIZATION_TEXT ? 0 : -EMSGSIZE;
}
