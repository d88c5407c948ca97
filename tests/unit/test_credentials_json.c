/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_json.h"

#include "unit/test.h"

#define KEYS "\"AccessKeyId\": \"AKID\", \"SecretAccessKey\": \"se/cr+et\""

static struct credentials_set *set;
static struct net_failure failure;

/* Parse into the set above, which is new. */
static int parse(const char *text)
{
    credentials_set_free(set);
    set = NULL;
    failure = (struct net_failure){0};
    if (credentials_set_new(&set) != 0)
        abort();
    return credentials_json_parse(text, strlen(text), set, &failure);
}

/* Whether it is refused, with these words and nothing secret. */
static bool is_refused(const char *text, const char *words)
{
    int error = parse(text);

    if (error != -EBADMSG || !strstr(failure.text, words) ||
        failure.error != -EBADMSG || strstr(failure.text, "se/cr"))
        printf("# %d %s\n", error, failure.text);
    return error == -EBADMSG && failure.error == -EBADMSG &&
           strstr(failure.text, words) && !strstr(failure.text, "se/cr");
}

/* The last set of a test. */
static void done(void)
{
    credentials_set_free(set);
    set = NULL;
}

TEST("the document of an instance's role gives all there is")
{
    CHECK(parse("{\n  \"Code\" : \"Success\",\n"
                "  \"LastUpdated\" : \"2026-11-22T01:00:00Z\",\n"
                "  \"Type\" : \"AWS-HMAC\"," KEYS ","
                "  \"Token\" : \"to+ken==\",\n"
                "  \"Expiration\" : \"2026-11-22T03:10:11Z\"\n}") == 0);
    CHECK(strcmp(set->access_key, "AKID") == 0);
    CHECK(strcmp(set->secret_key, "se/cr+et") == 0);
    CHECK(strcmp(set->session_token, "to+ken==") == 0);
    CHECK(set->expires_ns == UINT64_C(1795317011) * 1000000000);
    done();
}

TEST("token and expiration may be missing, or null")
{
    CHECK(parse("{" KEYS "}") == 0);
    CHECK(set->session_token[0] == '\0');
    CHECK(set->expires_ns == CREDENTIALS_NEVER);
    CHECK(parse("{" KEYS ", \"Token\": null, \"Expiration\": null}") == 0);
    CHECK(set->expires_ns == CREDENTIALS_NEVER);
    done();
}

TEST("a code other than success is an error, and told, printable")
{
    CHECK(is_refused("{\"Code\": \"AssumeRole\\u0007Unauthorized\"," KEYS "}",
                     "no keys, but: AssumeRole?Unauthorized"));
    CHECK(is_refused("{\"Code\": 1," KEYS "}", "no keys"));
    CHECK(is_refused("{\"Code\": null," KEYS "}", "no keys"));
    done();
}

TEST("what is missing, empty or of another type is named")
{
    CHECK(is_refused("{\"AccessKeyId\": \"a\"}", "SecretAccessKey is missing"));
    CHECK(is_refused("{\"SecretAccessKey\": \"se/cr\"}",
                     "AccessKeyId is missing"));
    CHECK(is_refused("{\"AccessKeyId\": \"\", \"SecretAccessKey\": \"se/cr\"}",
                     "AccessKeyId is missing"));
    CHECK(is_refused("{\"AccessKeyId\": [], \"SecretAccessKey\": \"se/cr\"}",
                     "AccessKeyId is missing"));
    CHECK(is_refused("{" KEYS ", \"Token\": 5}", "Token is missing"));
    CHECK(is_refused("{" KEYS ", \"Expiration\": \"tomorrow\"}",
                     "Expiration is no date"));
    CHECK(is_refused("{" KEYS ", \"Expiration\": 1795317011}",
                     "Expiration is no date"));
    done();
}

TEST("bytes that end a line of a request are refused")
{
    CHECK(is_refused("{" KEYS ", \"Token\": \"a\\r\\nX: y\"}",
                     "Token has more than one line"));
    CHECK(is_refused("{\"AccessKeyId\": \"a\\u0000b\", "
                     "\"SecretAccessKey\": \"se/cr\"}",
                     "no JSON"));
    done();
}

TEST("what is no document is refused without showing it")
{
    static const char *const texts[] = {
        "",         "{",
        "[]x",      "{" KEYS,
        "se/cr",    "{\"se/cr\": tru}",
        "\xff\xfe", "{\"Token\": \"1\", \"Token\": \"2\"," KEYS "}"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        CHECK(is_refused(texts[i], "no JSON document"));
    CHECK(is_refused("["
                     "{" KEYS "}"
                     "]",
                     "no JSON object"));
    CHECK(is_refused("\"se/cr\"", "no JSON"));
    done();
}

TEST("a document that is too long, or too deep, is refused")
{
    size_t len = CREDENTIALS_JSON_MAX + 1;
    char *text = malloc(len + 1);

    NEED(text != NULL);
    memset(text, ' ', len);
    memcpy(text, "{" KEYS "}", strlen("{" KEYS "}"));
    text[len] = '\0';
    CHECK(is_refused(text, "too long"));
    text[len - 1] = '\0';
    CHECK(parse(text) == 0);
    memset(text, '[', len - 1);
    CHECK(is_refused(text, "no JSON document"));
    free(text);
    done();
}
