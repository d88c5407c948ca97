/* SPDX-License-Identifier: BSD-2-Clause */
/* What only servers do: see tls.h. */
#include <errno.h>
#include <gnutls/gnutls.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "base/net.h"
#include "base/secret.h"
#include "base/tls.h"
#include "base/tls_parts.h"

/*
 * The ciphers are named because of pre-shared keys: those are bound to
 * SHA-256, which excludes AES-256-GCM under TLS 1.3, and "NORMAL" then takes
 * ChaCha20 before AES-128-GCM: a tenth of the speed where AES is in hardware.
 */
#define PRIORITY_START                                                         \
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:+ECDHE-PSK:+DHE-PSK:+PSK:"     \
    "%SERVER_PRECEDENCE:-CIPHER-ALL:"
#define PRIORITY_AES_FIRST                                                     \
    PRIORITY_START "+AES-256-GCM:+AES-128-GCM:+CHACHA20-POLY1305"
#define PRIORITY_CHACHA_FIRST                                                  \
    PRIORITY_START "+CHACHA20-POLY1305:+AES-256-GCM:+AES-128-GCM"

enum { SECRET_FILE_MAX = 1 << 20 };

/* Whether a file with a key is there, and closed to others; logs. */
static int check_secret(const char *path)
{
    struct net_failure failure;
    struct secret_text text;
    int error = secret_read(path, SECRET_FILE_MAX, &text, &failure);

    if (error == 0) {
        error = secret_check(path, &text, &failure);
        secret_text_free(&text);
    }
    if (error < 0)
        log_error("%s", failure.text);
    return error;
}

static int load_certificates(struct tls_context *context, const char *dir,
                             bool verify_peer)
{
    char ca[PATH_MAX], certificate[PATH_MAX], key[PATH_MAX];
    int code, error;

    if (snprintf(ca, sizeof(ca), "%s/ca-cert.pem", dir) >= PATH_MAX ||
        snprintf(certificate, sizeof(certificate), "%s/server-cert.pem", dir) >=
            PATH_MAX ||
        snprintf(key, sizeof(key), "%s/server-key.pem", dir) >= PATH_MAX) {
        log_error("%s: the path is too long", dir);
        return -ENAMETOOLONG;
    }
    if (access(certificate, R_OK) < 0 || access(key, R_OK) < 0 ||
        (verify_peer && access(ca, R_OK) < 0)) {
        error = -errno;
        log_error("%s: server-cert.pem, server-key.pem%s: %s", dir,
                  verify_peer ? " or ca-cert.pem" : "", log_errno(error));
        return error;
    }
    error = check_secret(key);
    if (error < 0)
        return error;
    if (gnutls_certificate_allocate_credentials(&context->certificates) < 0)
        return -ENOMEM;
    code = gnutls_certificate_set_x509_key_file(
        context->certificates, certificate, key, GNUTLS_X509_FMT_PEM);
    if (code < 0) {
        log_error("%s: server-cert.pem, server-key.pem: %s", dir,
                  gnutls_strerror(code));
        return -EINVAL;
    }
    if (!verify_peer)
        return 0;
    code = gnutls_certificate_set_x509_trust_file(context->certificates, ca,
                                                  GNUTLS_X509_FMT_PEM);
    if (code <= 0) {
        log_error("%s: %s", ca,
                  code < 0 ? gnutls_strerror(code) : "no certificate in it");
        return -EINVAL;
    }
    return 0;
}

static int load_keys(struct tls_context *context, const char *path)
{
    int code, error = check_secret(path);

    if (error < 0)
        return error;
    if (gnutls_psk_allocate_server_credentials(&context->keys) < 0)
        return -ENOMEM;
    code = gnutls_psk_set_server_credentials_file(context->keys, path);
    if (code < 0) {
        log_error("%s: %s", path, gnutls_strerror(code));
        return -EINVAL;
    }
    (void)gnutls_psk_set_server_known_dh_params(context->keys,
                                                GNUTLS_SEC_PARAM_MEDIUM);
    return 0;
}

int tls_server_new(const struct tls_server_options *options,
                   struct tls_context **ret_context)
{
    struct tls_context *context;
    int error = 0;

    if ((!options->certificates_dir && !options->psk_file) ||
        (options->verify_peer && !options->certificates_dir))
        return -EINVAL;
    context = calloc(1, sizeof(*context));
    if (!context)
        return -ENOMEM;
    context->verify_peer = options->verify_peer;
    if (options->certificates_dir)
        error = load_certificates(context, options->certificates_dir,
                                  options->verify_peer);
    if (error == 0 && options->psk_file)
        error = load_keys(context, options->psk_file);
    if (error == 0 &&
        gnutls_priority_init(&context->priority,
                             tls_processor_has_aes() ? PRIORITY_AES_FIRST
                                                     : PRIORITY_CHACHA_FIRST,
                             NULL) < 0)
        error = -ENOMEM;
    if (error < 0) {
        tls_free(context);
        return error;
    }
    *ret_context = context;
    return 0;
}

static void log_handshake(const struct tls_stream *tls, int error, int code)
{
    static struct log_limit limit;
    uint64_t left_out;
    char peer[80];

    if (!log_limit_allows(&limit, &left_out))
        return;
    net_peer_name(tls->plain->fd, peer, sizeof(peer));
    log_warning("%s: TLS handshake failed: %s (%llu more not shown)", peer,
                error == -ETIMEDOUT ? log_errno(error) : gnutls_strerror(code),
                (unsigned long long)left_out);
}

int tls_accept(struct tls_context *context, struct stream **stream,
               uint64_t deadline_ns)
{
    struct tls_stream *tls = tls_stream_new(context, *stream, GNUTLS_SERVER);
    int error, code;

    if (!tls)
        return -ENOMEM;
    if (context->keys && gnutls_credentials_set(tls->session, GNUTLS_CRD_PSK,
                                                context->keys) < 0) {
        tls_stream_drop(tls);
        return -ENOMEM;
    }
    if (context->verify_peer) {
        gnutls_certificate_server_set_request(tls->session,
                                              GNUTLS_CERT_REQUIRE);
        gnutls_session_set_verify_cert(tls->session, NULL, 0);
    }
    error = tls_stream_handshake(tls, deadline_ns, &code);
    if (error < 0) {
        log_handshake(tls, error, code);
        tls_stream_drop(tls);
        return error;
    }
    *stream = &tls->stream;
    return 0;
}
