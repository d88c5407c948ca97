/* SPDX-License-Identifier: BSD-2-Clause */
/* What only clients do: see tls.h. */
#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/tls.h"
#include "base/tls_parts.h"

/* Without AES in the processor, NORMAL would still begin with it. */
#define PRIORITY_AES_FIRST "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define PRIORITY_CHACHA_FIRST                                                  \
    PRIORITY_AES_FIRST ":-CIPHER-ALL:+CHACHA20-POLY1305:+AES-128-GCM:"         \
                       "+AES-256-GCM:+AES-128-CBC:+AES-256-CBC"

static int load_file(struct tls_context *context, const char *path)
{
    int count;

    if (access(path, R_OK) < 0) {
        int error = -errno;

        log_error("%s: %s", path, log_errno(error));
        return error;
    }
    count = gnutls_certificate_set_x509_trust_file(context->certificates, path,
                                                   GNUTLS_X509_FMT_PEM);
    if (count <= 0) {
        log_error("%s: %s", path,
                  count < 0 ? gnutls_strerror(count) : "no certificate in it");
        return -EINVAL;
    }
    return 0;
}

static int load_system(struct tls_context *context)
{
    int count = gnutls_certificate_set_x509_system_trust(context->certificates);

    if (count > 0)
        return 0;
    log_error("no certificate of an authority is installed on this system: %s",
              count < 0 ? gnutls_strerror(count)
                        : "is the package ca-certificates there?");
    return -ENOENT;
}

static int client_init(struct tls_context *context,
                       const struct tls_client_options *options)
{
    int error = 0;

    context->is_insecure = options->is_insecure;
    context->trusts = strdup(options->ca_file ? options->ca_file
                                              : "this system's authorities");
    context->tickets = tls_tickets_new();
    if (!context->trusts || !context->tickets ||
        gnutls_certificate_allocate_credentials(&context->certificates) < 0 ||
        gnutls_priority_init(&context->priority,
                             tls_processor_has_aes() ? PRIORITY_AES_FIRST
                                                     : PRIORITY_CHACHA_FIRST,
                             NULL) < 0)
        return -ENOMEM;
    if (options->ca_file)
        error = load_file(context, options->ca_file);
    else if (!options->is_insecure)
        error = load_system(context);
    return error;
}

int tls_client_new(const struct tls_client_options *options,
                   struct tls_context **ret_context)
{
    struct tls_context *context = calloc(1, sizeof(*context));
    int error;

    if (!context)
        return -ENOMEM;
    error = client_init(context, options);
    if (error < 0) {
        tls_free(context);
        return error;
    }
    *ret_context = context;
    return 0;
}

/*
 * Returns the name as certificates have it: an address without brackets, a
 * host without the dot that ends it.  NULL: no memory.
 */
static char *plain_name(const char *name, bool *ret_is_address)
{
    struct net_address address;
    size_t len = strlen(name);

    *ret_is_address = net_address_parse(name, 0, &address) == 0;
    if (name[0] == '[' && *ret_is_address)
        return strndup(name + 1, len - 2);
    return strndup(name, len > 1 && name[len - 1] == '.' ? len - 1 : len);
}

/* Say what the session is to be.  0 or -ENOMEM. */
static int client_prepare(struct tls_context *context, struct tls_stream *tls,
                          const char *name)
{
    static unsigned char http[] = "http/1.1";
    const gnutls_datum_t protocol = {http, sizeof(http) - 1};
    bool is_address;
    size_t len;
    void *ticket;

    tls->name = plain_name(name, &is_address);
    if (!tls->name ||
        gnutls_alpn_set_protocols(tls->session, &protocol, 1, 0) < 0 ||
        (!is_address &&
         gnutls_server_name_set(tls->session, GNUTLS_NAME_DNS, tls->name,
                                strlen(tls->name)) < 0))
        return -ENOMEM;
    if (!context->is_insecure)
        gnutls_session_set_verify_cert(tls->session, tls->name, 0);
    ticket = tls_tickets_take(context->tickets, tls->name, &len);
    if (ticket)
        (void)gnutls_session_set_data(tls->session, ticket, len);
    tls_tickets_wipe(ticket, len);
    return 0;
}

int tls_connect(struct tls_context *context, const char *name,
                struct stream **stream, uint64_t deadline_ns,
                struct net_failure *ret_failure)
{
    struct tls_stream *tls = tls_stream_new(context, *stream, GNUTLS_CLIENT);
    int error = -ENOMEM, code = GNUTLS_E_MEMORY_ERROR;

    if (tls)
        error = client_prepare(context, tls, name);
    if (error == 0)
        error = tls_stream_handshake(tls, deadline_ns, &code);
    if (error < 0) {
        if (code == GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR ||
            code == GNUTLS_E_CERTIFICATE_ERROR)
            error = -EKEYREJECTED;
        tls_reason(context, tls, error, code, ret_failure);
        if (tls)
            tls_stream_drop(tls);
        return ret_failure->error;
    }
    tls->tickets = context->tickets;
    *stream = &tls->stream;
    return 0;
}
