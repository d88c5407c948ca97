/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/s3_answer.h"

#include <expat.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/auto.h"
#include "base/moment.h"
#include "base/number.h"

/* ---- documents in general ----------------------------------------------- */

enum {
    /* The longest text that somebody wants: a session token. */
    TEXT_SIZE = sizeof(((struct s3_sts_credentials *)NULL)->session_token),
    PATH_SIZE = S3_ANSWER_DEPTH * (S3_ANSWER_NAME_MAX + 1) + 1,
};

struct reader;

/* A kind of document. */
struct document {
    const char *root;       /* the name that its first element has, ... */
    const char *other_root; /* ... or this, if not NULL */
    /* An element ends: its path is "/Root/Name", text is what it had behind
     * its last child.  Another result than 0 ends the parsing. */
    int (*end)(const struct reader *reader, void *target);
};

/* One on its way through expat. */
struct reader {
    XML_Parser parser;
    const struct document *document;
    void *target;
    int result;
    size_t depth, path_len, text_len;
    bool text_is_cut;
    char path[PATH_SIZE];
    char text[TEXT_SIZE];
};

static void stop(struct reader *reader, int result)
{
    if (reader->result == 0)
        reader->result = result;
    (void)XML_StopParser(reader->parser, XML_FALSE);
}

static void clear_text(struct reader *reader)
{
    reader->text_len = 0;
    reader->text[0] = '\0';
    reader->text_is_cut = false;
}

static bool is_root(const struct document *document, const char *name)
{
    return strcmp(name, document->root) == 0 ||
           (document->other_root && strcmp(name, document->other_root) == 0);
}

static void XMLCALL on_start(void *context, const XML_Char *name,
                             const XML_Char **attributes)
{
    struct reader *reader = context;
    const char *colon = strchr(name, ':');
    size_t len;

    (void)attributes;
    if (colon)
        name = colon + 1;
    len = strlen(name);
    if (reader->depth == S3_ANSWER_DEPTH || len > S3_ANSWER_NAME_MAX ||
        (reader->depth == 0 && !is_root(reader->document, name))) {
        stop(reader, -EBADMSG);
        return;
    }
    reader->path[reader->path_len] = '/';
    memcpy(reader->path + reader->path_len + 1, name, len + 1);
    reader->path_len += len + 1;
    reader->depth++;
    clear_text(reader);
}

static void XMLCALL on_end(void *context, const XML_Char *name)
{
    struct reader *reader = context;
    int result;

    (void)name;
    /* An empty element ends even if the parsing was stopped at its start. */
    if (reader->result != 0)
        return;
    result = reader->document->end(reader, reader->target);
    if (result != 0) {
        stop(reader, result);
        return;
    }
    while (reader->path[--reader->path_len] != '/')
        ;
    reader->path[reader->path_len] = '\0';
    reader->depth--;
    clear_text(reader);
}

static void XMLCALL on_text(void *context, const XML_Char *text, int len)
{
    struct reader *reader = context;
    size_t room = sizeof(reader->text) - 1 - reader->text_len;
    size_t count = (size_t)len;

    if (count > room) {
        count = room;
        reader->text_is_cut = true;
    }
    memcpy(reader->text + reader->text_len, text, count);
    reader->text_len += count;
    reader->text[reader->text_len] = '\0';
}

/* No store has one, and all that can be done with it is harm. */
static void XMLCALL on_doctype(void *context, const XML_Char *name,
                               const XML_Char *system_id,
                               const XML_Char *public_id,
                               int has_internal_subset)
{
    (void)name;
    (void)system_id;
    (void)public_id;
    (void)has_internal_subset;
    stop(context, -EBADMSG);
}

static int run_parser(struct reader *reader, const char *body, size_t len)
{
    XML_SetUserData(reader->parser, reader);
    XML_SetElementHandler(reader->parser, on_start, on_end);
    XML_SetCharacterDataHandler(reader->parser, on_text);
    XML_SetStartDoctypeDeclHandler(reader->parser, on_doctype);
    if (XML_Parse(reader->parser, body, (int)len, XML_TRUE) == XML_STATUS_OK)
        return 0;
    if (reader->result != 0)
        return reader->result;
    return XML_GetErrorCode(reader->parser) == XML_ERROR_NO_MEMORY ? -ENOMEM
                                                                   : -EBADMSG;
}

/* Parse a whole document of that kind into target. */
static int read_document(const char *body, size_t len,
                         const struct document *document, void *target)
{
    struct reader *reader;
    int result = -ENOMEM;

    /* Some stores send blanks while they work, and then the document. */
    while (len > 0 && memchr(" \t\r\n", *body, 4)) {
        body++;
        len--;
    }
    if (len == 0 || len > S3_ANSWER_MAX)
        return -EBADMSG;
    reader = malloc(sizeof(*reader));
    if (!reader)
        return -ENOMEM;
    *reader = (struct reader){.document = document, .target = target};
    reader->parser = XML_ParserCreate("UTF-8");
    if (reader->parser) {
        result = run_parser(reader, body, len);
        XML_ParserFree(reader->parser);
    }
    /* It may have been a secret. */
    explicit_bzero(reader, sizeof(*reader));
    free(reader);
    return result;
}

static bool path_is(const struct reader *reader, const char *path)
{
    return strcmp(reader->path, path) == 0;
}

/* Copy as much as fits, all of it made printable. */
static void copy_printable(const char *text, char *to, size_t size)
{
    size_t len = strnlen(text, size - 1);

    for (size_t i = 0; i < len; i++)
        to[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    to[len] = '\0';
}

/* ---- errors ------------------------------------------------------------- */

static int end_of_error(const struct reader *reader, void *target)
{
    static const char own[] = "/Error/", of_sts[] = "/ErrorResponse/";
    struct s3_error *error = target;
    const char *name = strrchr(reader->path, '/') + 1;
    /* Part of a region, or of a host, is another one. */
    struct {
        const char *name;
        char *text;
        size_t size;
        bool may_be_cut;
    } fields[] = {
        {"Code", error->code, sizeof(error->code), true},
        {"Message", error->message, sizeof(error->message), true},
        {"RequestId", error->request_id, sizeof(error->request_id), true},
        {"Region", error->region, sizeof(error->region), false},
        {"Endpoint", error->endpoint, sizeof(error->endpoint), false},
    };

    if (strncmp(reader->path, own, strlen(own)) != 0 &&
        strncmp(reader->path, of_sts, strlen(of_sts)) != 0)
        return 0;
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strcmp(name, fields[i].name) == 0 &&
            (fields[i].may_be_cut || reader->text_len < fields[i].size))
            copy_printable(reader->text, fields[i].text, fields[i].size);
    }
    if (strcmp(name, "ServerTime") == 0 &&
        moment_parse_iso(reader->text, &error->server_time_s, NULL) != 0)
        error->server_time_s = 0;
    return 0;
}

int s3_error_parse(const char *body, size_t len, struct s3_error *ret_error)
{
    static const struct document document = {"Error", "ErrorResponse",
                                             end_of_error};
    struct s3_error error = {.server_time_s = 0};
    int result = read_document(body, len, &document, &error);

    if (result == 0)
        *ret_error = error;
    return result;
}

/* ---- lists -------------------------------------------------------------- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* What was cut off is too long for a key, also when it is encoded. */
_Static_assert(TEXT_SIZE > 3 * (S3_KEY_MAX + 1), "the longest key fits");

/* Undo the encoding of a URL, if there is one: whether it is a key. */
static bool decode_key(const char *text, bool is_encoded,
                       char key[S3_KEY_MAX + 1])
{
    size_t len = 0;

    for (; *text != '\0'; text++) {
        char c = *text;

        if (is_encoded && c == '+') {
            c = ' ';
        } else if (is_encoded && c == '%') {
            int high = hex_value(text[1]);
            int low = high < 0 ? -1 : hex_value(text[2]);

            if (low < 0 || (high == 0 && low == 0))
                return false;
            c = (char)(high << 4 | low);
            text += 2;
        }
        if (len == S3_KEY_MAX)
            return false;
        key[len++] = c;
    }
    key[len] = '\0';
    return len > 0;
}

/* What is parsed of a list, in two passes: see s3_list_parse. */
struct list {
    struct s3_list result;
    bool is_encoded;    /* the keys are */
    bool has_truncated; /* the element that tells */
    s3_list_each *each; /* for the second pass */
    void *context;
    bool has_key, has_size, has_modified; /* of the object so far */
    uint64_t size, modified_ns;
    char key[S3_KEY_MAX + 1];
};

static int parse_modified(const char *text, uint64_t *ret_ns)
{
    static const uint64_t second_ns = 1000000000;
    uint64_t seconds;
    uint32_t ns;

    if (moment_parse_iso(text, &seconds, &ns) != 0 ||
        seconds > UINT64_MAX / second_ns - 1)
        return -EBADMSG;
    *ret_ns = seconds * second_ns + ns;
    return 0;
}

static int parse_truth(const char *text, bool *ret_is_true)
{
    *ret_is_true = strcmp(text, "true") == 0;
    return *ret_is_true || strcmp(text, "false") == 0 ? 0 : -EBADMSG;
}

/* Take what the list says of itself. */
static int end_in_list(const struct reader *reader, void *target)
{
    struct list *list = target;
    const char *text = reader->text;

    if (path_is(reader, "/ListBucketResult/EncodingType")) {
        list->is_encoded = strcmp(text, "url") == 0;
        return list->is_encoded || *text == '\0' ? 0 : -EBADMSG;
    }
    if (path_is(reader, "/ListBucketResult/IsTruncated")) {
        list->has_truncated = true;
        return parse_truth(text, &list->result.is_truncated);
    }
    if (path_is(reader, "/ListBucketResult/NextContinuationToken")) {
        if (reader->text_len > S3_TOKEN_MAX)
            return -EBADMSG;
        memcpy(list->result.next_token, text, reader->text_len + 1);
    }
    if (path_is(reader, "/ListBucketResult/Contents"))
        list->result.count++;
    return 0;
}

/* Hand over an object at its end, if everything was there. */
static int end_of_object(struct list *list)
{
    if (!list->has_key || !list->has_size || !list->has_modified)
        return -EBADMSG;
    list->has_key = list->has_size = list->has_modified = false;
    return list->each(list->context, list->key, list->size, list->modified_ns);
}

/* Take what the list says of its objects. */
static int end_in_objects(const struct reader *reader, void *target)
{
    struct list *list = target;
    const char *text = reader->text;

    if (path_is(reader, "/ListBucketResult/Contents/Key")) {
        if (list->has_key || !decode_key(text, list->is_encoded, list->key))
            return -EBADMSG;
        list->has_key = true;
    } else if (path_is(reader, "/ListBucketResult/Contents/Size")) {
        if (number_parse(text, 0, UINT64_MAX, &list->size) != 0)
            return -EBADMSG;
        list->has_size = true;
    } else if (path_is(reader, "/ListBucketResult/Contents/LastModified")) {
        /* Who deletes what is old must not take 1970 for an answer. */
        if (parse_modified(text, &list->modified_ns) != 0)
            return -EBADMSG;
        list->has_modified = true;
    } else if (path_is(reader, "/ListBucketResult/Contents")) {
        return end_of_object(list);
    }
    return 0;
}

/*
 * In two passes: how the keys are encoded, or that the document is cut off,
 * may be known only at its end.
 */
int s3_list_parse(const char *body, size_t len, s3_list_each *each,
                  void *context, struct s3_list *ret_list)
{
    static const struct document of_itself = {"ListBucketResult", NULL,
                                              end_in_list};
    static const struct document of_objects = {"ListBucketResult", NULL,
                                               end_in_objects};
    AUTO_FREE struct list *list = calloc(1, sizeof(*list));
    int result;

    if (!list)
        return -ENOMEM;
    list->each = each;
    list->context = context;
    result = read_document(body, len, &of_itself, list);
    /* One that ends too early without saying so would hide the rest. */
    if (result == 0 && !list->has_truncated)
        result = -EBADMSG;
    if (result == 0)
        result = read_document(body, len, &of_objects, list);
    if (result == 0)
        *ret_list = list->result;
    return result;
}

/* ---- deletions ---------------------------------------------------------- */

struct deleted {
    s3_deleted_each *each; /* NULL: the first pass, as of a list */
    void *context;
    struct s3_error error;
    char key[S3_KEY_MAX + 1]; /* "": not yet */
};

static int end_in_deleted(const struct reader *reader, void *target)
{
    struct deleted *deleted = target;
    struct s3_error *error = &deleted->error;
    int result = 0;

    if (path_is(reader, "/DeleteResult/Error/Key")) {
        if (!decode_key(reader->text, false, deleted->key))
            return -EBADMSG;
    } else if (path_is(reader, "/DeleteResult/Error/Code")) {
        copy_printable(reader->text, error->code, sizeof(error->code));
    } else if (path_is(reader, "/DeleteResult/Error/Message")) {
        copy_printable(reader->text, error->message, sizeof(error->message));
    } else if (path_is(reader, "/DeleteResult/Error")) {
        if (deleted->key[0] == '\0')
            return -EBADMSG;
        if (deleted->each)
            result = deleted->each(deleted->context, deleted->key, error);
        deleted->key[0] = '\0';
        *error = (struct s3_error){.server_time_s = 0};
    }
    return result;
}

int s3_deleted_parse(const char *body, size_t len, s3_deleted_each *each,
                     void *context)
{
    static const struct document document = {"DeleteResult", NULL,
                                             end_in_deleted};
    struct deleted deleted = {.context = context};
    int result = read_document(body, len, &document, &deleted);

    deleted.each = each;
    return result ? result : read_document(body, len, &document, &deleted);
}

/* ---- credentials -------------------------------------------------------- */

#define STS_CREDENTIALS                                                        \
    "/AssumeRoleWithWebIdentityResponse/AssumeRoleWithWebIdentityResult/"      \
    "Credentials/"

static int end_in_sts(const struct reader *reader, void *target)
{
    struct s3_sts_credentials *credentials = target;
    struct {
        const char *path;
        char *text;
        size_t size;
    } fields[] = {
        {STS_CREDENTIALS "AccessKeyId", credentials->access_key,
         sizeof(credentials->access_key)},
        {STS_CREDENTIALS "SecretAccessKey", credentials->secret_key,
         sizeof(credentials->secret_key)},
        {STS_CREDENTIALS "SessionToken", credentials->session_token,
         sizeof(credentials->session_token)},
    };

    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (!path_is(reader, fields[i].path))
            continue;
        if (reader->text_is_cut || reader->text_len >= fields[i].size)
            return -EBADMSG;
        memcpy(fields[i].text, reader->text, reader->text_len + 1);
    }
    if (path_is(reader, STS_CREDENTIALS "Expiration") &&
        moment_parse_iso(reader->text, &credentials->expires_s, NULL) != 0)
        return -EBADMSG;
    return 0;
}

int s3_sts_parse(const char *body, size_t len,
                 struct s3_sts_credentials *ret_credentials)
{
    static const struct document document = {
        "AssumeRoleWithWebIdentityResponse", NULL, end_in_sts};
    struct s3_sts_credentials *credentials = calloc(1, sizeof(*credentials));
    int result;

    if (!credentials)
        return -ENOMEM;
    result = read_document(body, len, &document, credentials);
    if (result == 0 &&
        (credentials->access_key[0] == '\0' ||
         credentials->secret_key[0] == '\0' ||
         credentials->session_token[0] == '\0' || credentials->expires_s == 0))
        result = -EBADMSG;
    if (result == 0)
        *ret_credentials = *credentials;
    explicit_bzero(credentials, sizeof(*credentials));
    free(credentials);
    return result;
}
