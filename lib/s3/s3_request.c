/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_request.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/moment.h"
#include "s3/http.h"

static const char *const methods[] = {
    [S3_GET] = "GET",          [S3_PUT] = "PUT",  [S3_HEAD] = "HEAD",
    [S3_DELETE] = "DELETE",    [S3_LIST] = "GET", [S3_DELETE_MANY] = "POST",
    [S3_HEAD_BUCKET] = "HEAD",
};

/* Whether the operation is on one object, not on the bucket. */
static bool verb_has_key(enum s3_verb verb)
{
    return verb == S3_GET || verb == S3_PUT || verb == S3_HEAD ||
           verb == S3_DELETE;
}

static bool verb_has_body(enum s3_verb verb)
{
    return verb == S3_PUT || verb == S3_DELETE_MANY;
}

/* ---- the target --------------------------------------------------------- */

struct target {
    char *text; /* of S3_TARGET_MAX bytes */
    size_t len;
    size_t path_len;
    bool is_too_long;
};

/* Note that len bytes, if they fit, were written behind the others. */
static void target_grow(struct target *target, size_t len)
{
    if (len < S3_TARGET_MAX - target->len)
        target->len += len;
    else
        target->is_too_long = true;
}

static void add_to_path(struct target *target, const char *raw)
{
    target_grow(target,
                sigv4_encode(raw, strlen(raw), true, target->text + target->len,
                             S3_TARGET_MAX - target->len));
}

static void add_query(struct target *target,
                      const struct sigv4_pair *parameters, size_t count)
{
    if (count == 0 || target->is_too_long || target->len + 1 >= S3_TARGET_MAX)
        return;
    target->text[target->len++] = '?';
    target_grow(target,
                sigv4_query(parameters, count, target->text + target->len,
                            S3_TARGET_MAX - target->len));
}

/* Write prefix and key as one; 0, or -EMSGSIZE. */
static int join_key(const struct s3_site *site, const char *key,
                    char joined[S3_KEY_MAX + 1])
{
    int len = snprintf(joined, S3_KEY_MAX + 1, "%s%s", site->prefix, key);

    return len >= 0 && len <= S3_KEY_MAX ? 0 : -EMSGSIZE;
}

/* Add what follows the "?" of a list. */
static int add_list_query(struct target *target,
                          const struct s3_operation *operation,
                          const struct s3_site *site)
{
    const char *token = operation->token, *after = operation->start_after;
    char prefix[S3_KEY_MAX + 1], start_after[S3_KEY_MAX + 1], max_keys[12];
    struct sigv4_pair parameters[SIGV4_PARAMETERS_MAX] = {
        {"list-type", "2"},
        /* Else there are keys that XML cannot carry. */
        {"encoding-type", "url"},
    };
    size_t count = 2;
    int error = join_key(
        site, operation->list_prefix ? operation->list_prefix : "", prefix);

    if (prefix[0] != '\0')
        parameters[count++] = (struct sigv4_pair){"prefix", prefix};
    if (token && *token != '\0') {
        parameters[count++] = (struct sigv4_pair){"continuation-token", token};
    } else if (after && *after != '\0' && error == 0) {
        error = join_key(site, after, start_after);
        parameters[count++] = (struct sigv4_pair){"start-after", start_after};
    }
    if (operation->max_keys > 0) {
        (void)snprintf(max_keys, sizeof(max_keys), "%u", operation->max_keys);
        parameters[count++] = (struct sigv4_pair){"max-keys", max_keys};
    }
    if (error == 0)
        add_query(target, parameters, count);
    return error;
}

/* Write path and query, once encoded: for the request line and to be signed. */
static int compose_target(const struct s3_operation *operation,
                          const struct s3_site *site, struct target *target)
{
    static const struct sigv4_pair delete_many = {"delete", ""};
    char key[S3_KEY_MAX + 1];
    int error = 0;

    add_to_path(target, "/");
    if (!site->is_virtual)
        add_to_path(target, site->bucket);
    if (verb_has_key(operation->verb)) {
        /* Without a key it would be an operation on the bucket. */
        if (operation->key[0] == '\0')
            return -EINVAL;
        error = join_key(site, operation->key, key);
        if (error)
            return error;
        add_to_path(target, site->is_virtual ? "" : "/");
        add_to_path(target, key);
    }
    target->path_len = target->len;
    if (operation->verb == S3_LIST)
        error = add_list_query(target, operation, site);
    else
        add_query(target, &delete_many, operation->verb == S3_DELETE_MANY);
    if (target->is_too_long)
        error = -EMSGSIZE;
    return error;
}

/* ---- the head ----------------------------------------------------------- */

/* The fields that are signed, and the texts that they have. */
struct fields {
    struct sigv4_pair list[SIGV4_FIELDS_MAX];
    size_t count;
    char host[S3_HOST_FIELD_TEXT];
    char date[MOMENT_BASIC_TEXT];
    char range[64];
};

/* Add a field; one without a value is left out. */
static void add_field(struct fields *fields, const char *name,
                      const char *value)
{
    assert(fields->count < SIGV4_FIELDS_MAX);
    if (value && *value != '\0')
        fields->list[fields->count++] = (struct sigv4_pair){name, value};
}

/* Add the range of a S3_GET; -EINVAL if there can be no such. */
static int add_range(struct fields *fields,
                     const struct s3_operation *operation)
{
    if (operation->len == 0)
        return 0;
    if (operation->len - 1 > UINT64_MAX - operation->offset)
        return -EINVAL;
    (void)snprintf(fields->range, sizeof(fields->range),
                   "bytes=%" PRIu64 "-%" PRIu64, operation->offset,
                   operation->offset + operation->len - 1);
    add_field(fields, "range", fields->range);
    return 0;
}

static void add_storage(struct fields *fields, const struct s3_storage *storage)
{
    add_field(fields, "x-amz-storage-class", storage->storage_class);
    add_field(fields, "x-amz-server-side-encryption", storage->sse);
    add_field(fields, "x-amz-server-side-encryption-aws-kms-key-id",
              storage->sse_key_id);
}

/* Fill in all fields that nobody on the way may change. */
static int compose_fields(const struct s3_operation *operation,
                          const struct s3_site *site,
                          const struct s3_storage *storage,
                          const struct sigv4_credentials *credentials,
                          uint64_t now_s, struct fields *fields)
{
    const struct s3_body *body = operation->body;
    int error = 0;

    add_field(fields, "host", s3_site_host_field(site, fields->host));
    add_field(fields, "x-amz-content-sha256",
              verb_has_body(operation->verb) ? body->sha256 : SIGV4_EMPTY_HASH);
    add_field(fields, "x-amz-date", moment_format_basic(now_s, fields->date));
    add_field(fields, "x-amz-security-token", credentials->session_token);
    if (operation->verb == S3_GET)
        error = add_range(fields, operation);
    if (verb_has_body(operation->verb))
        add_field(fields, "content-md5", body->md5);
    if (operation->verb == S3_DELETE_MANY)
        add_field(fields, "content-type", "application/xml");
    if (operation->verb == S3_PUT) {
        if (operation->if_absent)
            add_field(fields, "if-none-match", "*");
        if (storage)
            add_storage(fields, storage);
    }
    return error;
}

/* Write it all; returns the length or a negative errno. */
static ssize_t write_head(const struct s3_operation *operation,
                          const struct fields *fields,
                          const char *authorization, struct s3_request *request)
{
    struct http_composer composer;

    http_compose(&composer, request->head, sizeof(request->head),
                 methods[operation->verb], request->target);
    for (size_t i = 0; i < fields->count; i++)
        http_compose_field(&composer, fields->list[i].name,
                           fields->list[i].value);
    http_compose_field(&composer, "authorization", authorization);
    http_compose_field(&composer, "user-agent", "s3blkdev");
    if (verb_has_body(operation->verb))
        http_compose_number(&composer, "content-length", operation->body->len);
    return http_compose_end(&composer);
}

int s3_request_compose(const struct s3_operation *operation,
                       const struct s3_site *site,
                       const struct s3_storage *storage,
                       const struct sigv4_credentials *credentials,
                       struct sigv4_key *key, uint64_t now_s,
                       struct s3_request *ret_request)
{
    struct target target = {.text = ret_request->target};
    struct fields fields = {.count = 0};
    struct sigv4_request to_sign;
    char authorization[SIGV4_AUTHORIZATION_TEXT];
    size_t query_at;
    ssize_t len;
    int error;

    error = compose_target(operation, site, &target);
    if (error == 0)
        error = compose_fields(operation, site, storage, credentials, now_s,
                               &fields);
    if (error)
        return error;
    query_at = target.path_len + (target.len > target.path_len ? 1 : 0);
    to_sign = (struct sigv4_request){
        .method = methods[operation->verb],
        .path = target.text,
        .path_len = target.path_len,
        .query = target.text + query_at,
        .query_len = target.len - query_at,
        .fields = fields.list,
        .field_count = fields.count,
        .payload_hash = verb_has_body(operation->verb) ? operation->body->sha256
                                                       : SIGV4_EMPTY_HASH,
        .date = fields.date,
        .region = site->region,
        .service = "s3",
    };
    error = sigv4_sign(&to_sign, credentials, key, authorization);
    if (error)
        return error;
    len = write_head(operation, &fields, authorization, ret_request);
    if (len < 0)
        return (int)len;
    ret_request->head_len = (size_t)len;
    ret_request->is_head =
        operation->verb == S3_HEAD || operation->verb == S3_HEAD_BUCKET;
    return 0;
}

/* ---- bodies ------------------------------------------------------------- */

void s3_body_init(struct s3_body *body, const struct s3_site *site,
                  const void *data, size_t len, bool is_unsigned)
{
    *body = (struct s3_body){.data = data, .len = len};
    if (is_unsigned && site->is_tls)
        (void)snprintf(body->sha256, sizeof(body->sha256), "%s",
                       SIGV4_UNSIGNED_PAYLOAD);
    else
        sigv4_hash(data, len, body->sha256);
}

/* XML on its way into a buffer; len also counts what does not fit. */
struct xml {
    char *bytes;
    size_t size, len;
};

static void xml_add(struct xml *xml, const char *text)
{
    size_t len = strlen(text);

    if (xml->bytes && xml->len + len <= xml->size)
        memcpy(xml->bytes + xml->len, text, len);
    xml->len += len;
}

/* Add text as the contents of an element; -EINVAL: XML knows no such byte. */
static int xml_add_escaped(struct xml *xml, const char *text)
{
    for (; *text != '\0'; text++) {
        char plain[2] = {*text, '\0'};

        switch (*text) {
        case '&':
            xml_add(xml, "&amp;");
            break;
        case '<':
            xml_add(xml, "&lt;");
            break;
        case '>':
            xml_add(xml, "&gt;");
            break;
        case '\t':
            xml_add(xml, "&#9;");
            break;
        case '\n':
            xml_add(xml, "&#10;");
            break;
        case '\r':
            xml_add(xml, "&#13;");
            break;
        default:
            if ((unsigned char)*text < 0x20)
                return -EINVAL;
            xml_add(xml, plain);
        }
    }
    return 0;
}

static int write_keys(const struct s3_site *site, const char *const keys[],
                      size_t count, struct xml *xml)
{
    int error = 0;

    xml_add(xml, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                 "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">");
    for (size_t i = 0; i < count && error == 0; i++) {
        char key[S3_KEY_MAX + 1];

        error = join_key(site, keys[i], key);
        if (error)
            return error;
        xml_add(xml, "<Object><Key>");
        error = xml_add_escaped(xml, key);
        xml_add(xml, "</Key></Object>");
    }
    xml_add(xml, "<Quiet>true</Quiet></Delete>");
    return error;
}

int s3_body_of_keys(const struct s3_site *site, const char *const keys[],
                    size_t count, struct s3_body *ret_body, char **ret_data)
{
    struct xml xml = {NULL, 0, 0};
    int error;

    assert(count >= 1 && count <= S3_DELETE_KEYS_MAX);
    error = write_keys(site, keys, count, &xml);
    if (error)
        return error;
    xml.size = xml.len;
    xml.len = 0;
    xml.bytes = malloc(xml.size);
    if (!xml.bytes)
        return -ENOMEM;
    (void)write_keys(site, keys, count, &xml);
    *ret_body = (struct s3_body){.data = xml.bytes, .len = xml.len};
    sigv4_hash(xml.bytes, xml.len, ret_body->sha256);
    /* All but a few stores demand it of this request. */
    sigv4_md5(xml.bytes, xml.len, ret_body->md5);
    *ret_data = xml.bytes;
    return 0;
}
