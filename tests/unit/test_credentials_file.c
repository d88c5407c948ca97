/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_file.h"

#include "unit/test.h"

static struct credentials_profile found;
static struct credentials_file_mistake mistake;

static int parse(enum credentials_file_kind kind, const char *profile,
                 const char *text)
{
    return credentials_file_parse(text, strlen(text), kind, profile, &found,
                                  &mistake);
}

static bool is(struct credentials_text text, const char *wanted)
{
    return text.len == strlen(wanted) &&
           memcmp(text.len > 0 ? text.bytes : "", wanted, text.len) == 0;
}

/* Whether the text is refused for this line and reason. */
static bool is_refused(enum credentials_file_kind kind, const char *text,
                       unsigned line, const char *what)
{
    return parse(kind, "default", text) == -EINVAL && mistake.line == line &&
           strstr(mistake.what, what);
}

TEST("a profile of a credentials file has what its section says")
{
    const char *text = "# comment\n"
                       "[default]\n"
                       "aws_access_key_id = AKID\n"
                       "aws_secret_access_key=se/cr+et=\n"
                       "\n"
                       "[work]\r\n"
                       "AWS_Access_Key_Id\t=\tWORK \r\n"
                       "aws_secret_access_key = w\r\n"
                       "aws_session_token = to==\r\n"
                       "region = eu-central-1\r\n"
                       "output = json";

    CHECK(parse(CREDENTIALS_FILE_KEYS, "default", text) == 0);
    CHECK(found.is_there);
    CHECK(is(found.access_key, "AKID"));
    CHECK(is(found.secret_key, "se/cr+et="));
    CHECK(is(found.session_token, "") && is(found.region, ""));
    CHECK(parse(CREDENTIALS_FILE_KEYS, "work", text) == 0);
    CHECK(is(found.access_key, "WORK"));
    CHECK(is(found.secret_key, "w"));
    CHECK(is(found.session_token, "to=="));
    CHECK(is(found.region, "eu-central-1"));
    CHECK(parse(CREDENTIALS_FILE_KEYS, "wor", text) == 0);
    CHECK(!found.is_there && is(found.access_key, ""));
    CHECK(parse(CREDENTIALS_FILE_KEYS, "default", "") == 0);
    CHECK(!found.is_there);
}

TEST("in a config file, sections are called profile, but for the default")
{
    const char *text = "[default]\nregion = a\naws_access_key_id = d\n"
                       "[profile work]\nregion = b\n"
                       "[other]\nregion = c\n"
                       "[sso-session work]\nsso_region = e\n";

    CHECK(parse(CREDENTIALS_FILE_CONFIG, "default", text) == 0);
    CHECK(is(found.region, "a"));
    CHECK(parse(CREDENTIALS_FILE_CONFIG, "work", text) == 0);
    CHECK(is(found.region, "b") && is(found.foreign, ""));
    CHECK(parse(CREDENTIALS_FILE_CONFIG, "other", text) == 0);
    CHECK(!found.is_there);
    CHECK(parse(CREDENTIALS_FILE_KEYS, "work", text) == 0);
    CHECK(!found.is_there);
    CHECK(parse(CREDENTIALS_FILE_CONFIG, "work",
                "[ profile \t work ] # mine\nregion = b\n") == 0);
    CHECK(is(found.region, "b"));
}

TEST("of [default] and [profile default] the second counts alone")
{
    CHECK(parse(CREDENTIALS_FILE_CONFIG, "default",
                "[default]\nregion = a\naws_access_key_id = d\n"
                "[profile default]\nregion = b\n"
                "[default]\naws_access_key_id = e\n"
                "[profile default]\naws_session_token = t\n") == 0);
    CHECK(is(found.region, "b") && is(found.access_key, ""));
    CHECK(is(found.session_token, "t"));
}

TEST("equal sections are one, and the later of two lines counts")
{
    CHECK(parse(CREDENTIALS_FILE_KEYS, "a",
                "[a]\naws_access_key_id = 1\nregion = x\n[b]\n"
                "aws_access_key_id = 2\n[a]\naws_access_key_id = 3\n") == 0);
    CHECK(is(found.access_key, "3") && is(found.region, "x"));
}

TEST("a comment begins a line, or follows a blank")
{
    CHECK(parse(CREDENTIALS_FILE_KEYS, "default",
                "[default]#x\n; y\n  # z\n"
                "aws_access_key_id = a#b;c # d\n"
                "aws_secret_access_key = e\t; f\n"
                "aws_session_token = # none\n"
                "region =; none\n") == 0);
    CHECK(is(found.access_key, "a#b;c"));
    CHECK(is(found.secret_key, "e"));
    CHECK(is(found.session_token, ""));
    CHECK(is(found.region, ""));
}

TEST("a deeper line continues what is nothing of ours, like s3 = ...")
{
    CHECK(parse(CREDENTIALS_FILE_CONFIG, "default",
                "[default]\ns3 =\n  aws_access_key_id = no\n"
                "  [also no]\nregion = r\n") == 0);
    CHECK(is(found.access_key, "") && is(found.region, "r"));
    CHECK(is_refused(CREDENTIALS_FILE_KEYS,
                     "[default]\naws_secret_access_key = a\n b\n", 3,
                     "stands deeper"));
    CHECK(parse(CREDENTIALS_FILE_KEYS, "default",
                "[b]\naws_secret_access_key = a\n b\n") == 0);
}

TEST("a section may be indented as a whole")
{
    CHECK(parse(CREDENTIALS_FILE_KEYS, "default",
                "[default]\n  aws_access_key_id = a\n"
                "  aws_secret_access_key = b\n [x]\n") == 0);
    CHECK(is(found.access_key, "a") && is(found.secret_key, "b"));
}

TEST("a file of ours needs no section, so lines of an environment are one")
{
    CHECK(parse(CREDENTIALS_FILE_OWN, "default",
                "AWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=b\n"
                "[other]\naws_access_key_id = c\n") == 0);
    CHECK(found.is_there && is(found.access_key, "a"));
    CHECK(is(found.secret_key, "b"));
    CHECK(parse(CREDENTIALS_FILE_OWN, "default",
                "[default]\naws_access_key_id=a\n") == 0);
    CHECK(is(found.access_key, "a"));
    CHECK(is_refused(CREDENTIALS_FILE_KEYS, "\nregion = a\n", 2,
                     "in front of the first section"));
    CHECK(is_refused(CREDENTIALS_FILE_CONFIG, "region = a\n", 1,
                     "in front of the first section"));
}

TEST("roles, tokens and those who make others sign are found")
{
    static const char *const names[] = {
        "source_profile", "credential_source", "credential_process",
        "sso_session",    "SSO_account_id",    "login_session",
    };

    CHECK(parse(CREDENTIALS_FILE_CONFIG, "default",
                "[default]\nrole_arn = arn:aws:iam::1:role/x\n"
                "web_identity_token_file = /t\nrole_session_name = s\n") == 0);
    CHECK(is(found.role_arn, "arn:aws:iam::1:role/x"));
    CHECK(is(found.token_file, "/t") && is(found.role_session_name, "s"));
    CHECK(is(found.foreign, ""));
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char text[128];

        (void)snprintf(text, sizeof(text), "[default]\n%s = x\n", names[i]);
        CHECK(parse(CREDENTIALS_FILE_CONFIG, "default", text) == 0);
        CHECK(is(found.foreign, names[i]));
    }
}

TEST("what is no setting, no section or no text is refused, by its line")
{
    enum credentials_file_kind kind = CREDENTIALS_FILE_OWN;

    CHECK(is_refused(kind, "[a]\n\nnonsense\n", 3, "not \"name = value\""));
    CHECK(is_refused(kind, "= b", 1, "not \"name = value\""));
    CHECK(is_refused(kind, "\n[default\n", 2, "without \"]\""));
    CHECK(is_refused(kind, "[default] b\n", 1, "behind \"]\""));
    CHECK(is_refused(kind, "aws_access_key_id = \"a\"\n", 1, "in quotes"));
    CHECK(is_refused(kind, "aws_access_key_id = 'a'\n", 1, "in quotes"));
    CHECK(credentials_file_parse("[a]\nb\0=c", 8, kind, "default", &found,
                                 &mistake) == -EINVAL);
    CHECK(mistake.line == 2 && strstr(mistake.what, "zero byte"));
}

TEST("what is wrong in other profiles' values is nothing to us")
{
    CHECK(parse(CREDENTIALS_FILE_KEYS, "default",
                "[x]\naws_access_key_id = \"a\"\n") == 0);
    CHECK(!found.is_there);
}
