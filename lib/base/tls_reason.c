/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Why a handshake failed, in words.  What a certificate says may be anything:
 * only its printable characters are repeated, and few of them.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/human.h"
#include "base/log.h"
#include "base/tls_parts.h"

enum { NAMES_MAX = 64, NAME_BYTES = 256 };

/* Text that is put together; what does not fit is left out. */
struct text {
    char bytes[512];
    size_t len;
};

static void text_add(struct text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void text_add(struct text *text, const char *format, ...)
{
    size_t room = sizeof(text->bytes) - text->len;
    va_list arguments;
    int len;

    va_start(arguments, format);
    len = vsnprintf(text->bytes + text->len, room, format, arguments);
    va_end(arguments);
    if (len > 0)
        text->len += (size_t)len < room ? (size_t)len : room - 1;
}

static void make_printable(char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        if (text[i] < ' ' || text[i] > '~')
            text[i] = '?';
    }
}

/* ---- the certificate ---------------------------------------------------- */

/* Returns the server's own certificate, to be freed, or NULL. */
static gnutls_x509_crt_t peer_certificate(const struct tls_stream *tls)
{
    unsigned count = 0;
    const gnutls_datum_t *chain =
        gnutls_certificate_get_peers(tls->session, &count);
    gnutls_x509_crt_t certificate;

    if (!chain || count == 0 || gnutls_x509_crt_init(&certificate) < 0)
        return NULL;
    if (gnutls_x509_crt_import(certificate, chain, GNUTLS_X509_FMT_DER) < 0) {
        gnutls_x509_crt_deinit(certificate);
        return NULL;
    }
    return certificate;
}

/* Write one of its names; returns false after the last. */
static bool name_at(gnutls_x509_crt_t certificate, unsigned index,
                    char name[NAME_BYTES])
{
    char bytes[NAME_BYTES];
    size_t len = sizeof(bytes) - 1;
    int type = gnutls_x509_crt_get_subject_alt_name(certificate, index, bytes,
                                                    &len, NULL);

    if (type == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
        return false;
    name[0] = '\0';
    if (type == GNUTLS_SAN_DNSNAME && len < NAME_BYTES) {
        memcpy(name, bytes, len);
        name[len] = '\0';
        make_printable(name, strlen(name));
    } else if (type == GNUTLS_SAN_IPADDRESS && (len == 4 || len == 16)) {
        (void)inet_ntop(len == 4 ? AF_INET : AF_INET6, bytes, name, NAME_BYTES);
    }
    return true;
}

static void add_names(struct text *text, gnutls_x509_crt_t certificate)
{
    char name[NAME_BYTES];
    size_t len = sizeof(name) - 1;
    const char *separator = "";

    for (unsigned i = 0; i < NAMES_MAX; i++) {
        if (!name_at(certificate, i, name))
            break;
        if (name[0] == '\0')
            continue;
        text_add(text, "%s\"%s\"", separator, name);
        separator = ", ";
    }
    if (separator[0] != '\0')
        return;
    /* What came before those names. */
    if (gnutls_x509_crt_get_dn_by_oid(certificate, GNUTLS_OID_X520_COMMON_NAME,
                                      0, 0, name, &len) == 0) {
        make_printable(name, strlen(name));
        text_add(text, "\"%s\" (as a common name only)", name);
    } else {
        text_add(text, "%s", "nobody");
    }
}

static void add_time(struct text *text, const char *words, time_t seconds)
{
    char moment[HUMAN_TEXT];

    text_add(text, "%s %s by this host's clock", words,
             seconds > 0 ? human_time((uint64_t)seconds * 1000000000U, moment)
                         : "some day");
}

static void add_expiry(struct text *text, gnutls_x509_crt_t certificate)
{
    time_t end = gnutls_x509_crt_get_expiration_time(certificate);

    if ((uint64_t)end >= clock_realtime_ns() / 1000000000U)
        text_add(text, "%s", "a certificate that it rests on has expired");
    else
        add_time(text, "it has expired on", end);
}

static void add_issuer(struct text *text, const struct tls_context *context,
                       gnutls_x509_crt_t certificate)
{
    char issuer[NAME_BYTES];
    size_t len = sizeof(issuer);

    if (gnutls_x509_crt_get_issuer_dn(certificate, issuer, &len) < 0)
        issuer[0] = '\0';
    make_printable(issuer, strlen(issuer));
    text_add(text, "it is not trusted: its issuer \"%s\" is not in %s", issuer,
             context->trusts);
}

/* What may be wrong with a certificate, in the order in which it is told. */
static void add_status(struct text *text, const struct tls_context *context,
                       const struct tls_stream *tls,
                       gnutls_x509_crt_t certificate, unsigned status)
{
    const char *begin = "";

    if (status & GNUTLS_CERT_SIGNER_NOT_FOUND) {
        add_issuer(text, context, certificate);
        begin = "; ";
    }
    if (status & GNUTLS_CERT_EXPIRED) {
        text_add(text, "%s", begin);
        add_expiry(text, certificate);
        begin = "; ";
    }
    if (status & GNUTLS_CERT_NOT_ACTIVATED) {
        text_add(text, "%s", begin);
        add_time(text, "it is not valid before",
                 gnutls_x509_crt_get_activation_time(certificate));
        begin = "; ";
    }
    if (status & GNUTLS_CERT_UNEXPECTED_OWNER) {
        text_add(text, "%sit is for other names: ", begin);
        add_names(text, certificate);
        begin = "; ";
    }
    if (begin[0] == '\0') {
        gnutls_datum_t words;

        if (gnutls_certificate_verification_status_print(
                status, gnutls_certificate_type_get(tls->session), &words, 0) ==
            0) {
            text_add(text, "%s", (const char *)words.data);
            gnutls_free(words.data);
        }
    }
}

static void explain_certificate(const struct tls_context *context,
                                const struct tls_stream *tls,
                                struct net_failure *ret_failure)
{
    gnutls_x509_crt_t certificate = peer_certificate(tls);
    struct text text = {.len = 0};

    if (certificate) {
        add_status(&text, context, tls, certificate,
                   gnutls_session_get_verify_cert_status(tls->session));
        gnutls_x509_crt_deinit(certificate);
    } else {
        text_add(&text, "%s", "it cannot be read");
    }
    net_failure_set(ret_failure, -EKEYREJECTED,
                    "the certificate shown for \"%s\" is refused: %s",
                    tls->name, text.bytes);
}

/* ---- the rest ----------------------------------------------------------- */

/* Returns whether the peer began with what can be no TLS. */
static bool is_other_protocol(const struct tls_stream *tls)
{
    enum { ALERT = 21, HANDSHAKE = 22 };

    return tls->first_len > 0 && tls->first[0] != ALERT &&
           tls->first[0] != HANDSHAKE;
}

static void explain_other(const struct tls_stream *tls,
                          struct net_failure *ret_failure)
{
    char first[TLS_FIRST_BYTES + 1];
    size_t len = tls->first_len;

    memcpy(first, tls->first, len);
    first[len] = '\0';
    make_printable(first, len);
    net_failure_set(ret_failure, -EPROTO,
                    "the server speaks no TLS at this port: it began with "
                    "\"%s\"",
                    first);
}

void tls_reason(const struct tls_context *context, const struct tls_stream *tls,
                int error, int code, struct net_failure *ret_failure)
{
    if (error == -ENOMEM)
        net_failure_set(ret_failure, error, "%s", log_errno(error));
    else if (error == -EKEYREJECTED)
        explain_certificate(context, tls, ret_failure);
    else if (error == -ETIMEDOUT)
        net_failure_set(ret_failure, error, "%s",
                        "the server has not answered the TLS handshake in "
                        "time");
    else if (is_other_protocol(tls))
        explain_other(tls, ret_failure);
    else if (error == -ECONNABORTED || error == -ECONNRESET)
        net_failure_set(ret_failure, error,
                        "the server ended the connection during the TLS "
                        "handshake: %s",
                        log_errno(error));
    else if (code == GNUTLS_E_UNSUPPORTED_VERSION_PACKET)
        net_failure_set(ret_failure, error, "%s",
                        "the server speaks no version of TLS that is still "
                        "secure: 1.2 or 1.3");
    else if (code == GNUTLS_E_FATAL_ALERT_RECEIVED)
        net_failure_set(ret_failure, error,
                        "the server refused the TLS handshake: %s",
                        gnutls_alert_get_name(gnutls_alert_get(tls->session)));
    else
        net_failure_set(ret_failure, error, "TLS handshake: %s",
                        error == -EPROTO ? gnutls_strerror(code)
                                         : log_errno(error));
}
