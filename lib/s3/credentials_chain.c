/* SPDX-License-Identifier: BSD-2-Clause */
#include "s3/credentials_chain.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "s3/credentials_container.h"
#include "s3/credentials_http.h"
#include "s3/credentials_identity.h"
#include "s3/credentials_imds.h"
#include "s3/credentials_local.h"
#include "s3/credentials_reader.h"

/* Reads one source; argument is what stands behind the colon, or NULL. */
typedef int source_load(struct credentials_chain *chain, const char *argument,
                        struct credentials_set *set,
                        struct net_failure *failure);

enum argument { NO_ARGUMENT, NAME_ARGUMENT, PATH_ARGUMENT };

struct source {
    const char *name;
    enum argument argument;
    source_load *load;
};

struct credentials_chain {
    const struct source *source;  /* NULL: all of them in turn */
    char *argument;               /* of the source, or NULL */
    struct credentials_set *keys; /* of the configuration, or NULL */
    char *region;
    bool is_aws;
    struct credentials_reader reader;
    struct credentials_http *http;
    struct credentials_imds *imds;
};

/* ---- the sources -------------------------------------------------------- */

static int load_file(struct credentials_chain *chain, const char *argument,
                     struct credentials_set *set, struct net_failure *failure)
{
    (void)chain;
    return credentials_from_file(argument, set, failure);
}

static int load_systemd(struct credentials_chain *chain, const char *argument,
                        struct credentials_set *set,
                        struct net_failure *failure)
{
    return credentials_from_systemd(&chain->reader, argument, set, failure);
}

static int load_environment(struct credentials_chain *chain,
                            const char *argument, struct credentials_set *set,
                            struct net_failure *failure)
{
    (void)argument;
    return credentials_from_environment(&chain->reader, set, failure);
}

static int load_profile(struct credentials_chain *chain, const char *argument,
                        struct credentials_set *set,
                        struct net_failure *failure)
{
    struct credentials_role role;
    int error =
        credentials_from_profile(&chain->reader, argument, set, &role, failure);

    if (error || role.arn[0] == '\0')
        return error;
    return credentials_from_role(&chain->reader, &role, set, failure);
}

static int load_identity(struct credentials_chain *chain, const char *argument,
                         struct credentials_set *set,
                         struct net_failure *failure)
{
    struct credentials_role role;
    int error =
        credentials_role_from_environment(&chain->reader, &role, failure);

    (void)argument;
    return error ? error
                 : credentials_from_role(&chain->reader, &role, set, failure);
}

static int load_container(struct credentials_chain *chain, const char *argument,
                          struct credentials_set *set,
                          struct net_failure *failure)
{
    (void)argument;
    return credentials_from_container(&chain->reader, set, failure);
}

static int load_imds(struct credentials_chain *chain, const char *argument,
                     struct credentials_set *set, struct net_failure *failure)
{
    (void)argument;
    return credentials_from_imds(chain->imds, &chain->reader, set, failure);
}

/* In the order in which they are asked; the first only by its name. */
static const struct source sources[] = {
    {"file", PATH_ARGUMENT, load_file},
    {"systemd", NAME_ARGUMENT, load_systemd},
    {"environment", NO_ARGUMENT, load_environment},
    {"profile", NAME_ARGUMENT, load_profile},
    {"webidentity", NO_ARGUMENT, load_identity},
    {"container", NO_ARGUMENT, load_container},
    {"imds", NO_ARGUMENT, load_imds},
};

enum { SOURCES_COUNT = sizeof(sources) / sizeof(sources[0]) };

/* ---- making and ending -------------------------------------------------- */

/* Copy a text that may be NULL; false: no memory. */
static bool copy(const char *text, char **ret_copy)
{
    *ret_copy = text ? strdup(text) : NULL;
    return !text || *ret_copy;
}

/* Whether what stands behind the colon (NULL: there is none) is right. */
static bool argument_is_right(enum argument wanted, const char *argument)
{
    switch (wanted) {
    case NAME_ARGUMENT:
        return argument && argument[0] != '\0' && !strchr(argument, '/');
    case PATH_ARGUMENT:
        return argument && argument[0] == '/';
    case NO_ARGUMENT:
    default:
        return !argument;
    }
}

/* Understand the setting. */
static int parse_source(struct credentials_chain *chain, const char *text,
                        struct net_failure *failure)
{
    const char *colon = strchr(text, ':');
    size_t len = colon ? (size_t)(colon - text) : strlen(text);
    const char *argument = colon ? colon + 1 : NULL;
    bool is_right;

    for (size_t i = 0; i < SOURCES_COUNT; i++) {
        if (strlen(sources[i].name) == len &&
            memcmp(sources[i].name, text, len) == 0)
            chain->source = &sources[i];
    }
    if (chain->source)
        is_right = argument_is_right(chain->source->argument, argument);
    else
        is_right = strcmp(text, "auto") == 0;
    if (!is_right) {
        net_failure_set(failure, -EINVAL,
                        "s3credentials \"%s\" is not one of auto, "
                        "file:/PATH, systemd:NAME, environment, "
                        "profile:NAME, webidentity, container, imds",
                        text);
        return -EINVAL;
    }
    return copy(argument, &chain->argument) ? 0 : -ENOMEM;
}

/* Take the keys of the configuration, if it has some. */
static int take_keys(struct credentials_chain *chain,
                     const struct credentials_options *options,
                     struct net_failure *failure)
{
    const struct {
        const char *name;
        enum credentials_field field;
        const char *text;
    } values[] = {
        {"s3accesskey", CREDENTIALS_ACCESS_KEY, options->access_key},
        {"s3secretkey", CREDENTIALS_SECRET_KEY, options->secret_key},
        {"s3sessiontoken", CREDENTIALS_SESSION_TOKEN, options->session_token},
    };
    int error;

    if (!options->access_key && !options->secret_key && !options->session_token)
        return 0;
    if (!options->access_key || !options->secret_key) {
        net_failure_set(failure, -EINVAL, "there is no %s",
                        values[options->access_key != NULL].name);
        return -EINVAL;
    }
    if (chain->source) {
        net_failure_set(failure, -EINVAL,
                        "s3credentials and s3accesskey cannot both be used");
        return -EINVAL;
    }
    error = credentials_set_new(&chain->keys);
    for (size_t i = 0; i < 3 && !error; i++) {
        const char *text = values[i].text;

        if (text &&
            credentials_reader_put(chain->keys, values[i].field, values[i].name,
                                   text, strlen(text), failure) != 0)
            error = -EINVAL;
    }
    return error;
}

/* Fill in the chain, which is all zeros. */
static int fill(struct credentials_chain *chain,
                const struct credentials_options *options,
                struct net_failure *failure)
{
    int error;

    if (!copy(options->region, &chain->region))
        return -ENOMEM;
    chain->is_aws = options->is_aws;
    error = parse_source(chain, options->source ? options->source : "auto",
                         failure);
    if (!error)
        error = take_keys(chain, options, failure);
    if (!error)
        error = credentials_imds_new(&chain->imds);
    if (!error)
        error = credentials_http_new(options->ca_file, &chain->http);
    chain->reader = (struct credentials_reader){
        .environment = options->environment,
        .environment_context = options->environment_context,
        .region = chain->region,
        .http = chain->http,
    };
    return error;
}

int credentials_chain_new(const struct credentials_options *options,
                          struct credentials_chain **ret_chain,
                          struct net_failure *ret_failure)
{
    struct credentials_chain *chain = calloc(1, sizeof(*chain));
    int error = -ENOMEM;

    net_failure_set(ret_failure, error, "no memory");
    if (chain)
        error = fill(chain, options, ret_failure);
    if (error)
        credentials_chain_free(chain);
    else
        *ret_chain = chain;
    return error;
}

void credentials_chain_free(struct credentials_chain *chain)
{
    if (!chain)
        return;
    credentials_http_free(chain->http);
    credentials_imds_free(chain->imds);
    credentials_set_free(chain->keys);
    free(chain->argument);
    free(chain->region);
    free(chain);
}

void credentials_chain_interrupt(struct credentials_chain *chain)
{
    credentials_http_interrupt(chain->http);
}

/* ---- reading ------------------------------------------------------------ */

/*
 * Ask one after the other, until one has keys or should have.  One that has
 * nothing may have written into the set all the same.
 */
static int load_first(struct credentials_chain *chain,
                      struct credentials_set *set, struct net_failure *failure)
{
    int error = -ENOENT;
    size_t count = SOURCES_COUNT - (chain->is_aws ? 0 : 1);

    for (size_t i = 1; i < count && error == -ENOENT; i++) {
        set->region[0] = '\0';
        error = sources[i].load(chain, NULL, set, failure);
    }
    if (error == -ENOENT) {
        struct net_failure last = *failure;

        net_failure_set(failure, error,
                        "no s3accesskey, and s3credentials auto finds no "
                        "systemd credential, environment, profile, web "
                        "identity or container; %s",
                        chain->is_aws ? last.text
                                      : "metadata of instances is asked for "
                                        "Amazon's hosts only");
    }
    return error;
}

static int load(struct credentials_chain *chain, struct credentials_set *set,
                struct net_failure *failure)
{
    if (chain->source)
        return chain->source->load(chain, chain->argument, set, failure);
    if (!chain->keys)
        return load_first(chain, set, failure);
    *set = *chain->keys;
    memcpy(set->source, "configuration", sizeof("configuration"));
    return 0;
}

int credentials_chain_load(struct credentials_chain *chain,
                           struct credentials_set **ret_set,
                           struct net_failure *ret_failure)
{
    struct credentials_set *set = NULL;
    int error = credentials_set_new(&set);

    if (error)
        net_failure_set(ret_failure, error, "no memory");
    else
        error = load(chain, set, ret_failure);
    if (error)
        credentials_set_free(set);
    else
        *ret_set = set;
    return error;
}
