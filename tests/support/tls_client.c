/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/tls_client.h"

#include <assert.h>
#include <gnutls/gnutls.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/certificates.h"

struct tls_client {
    gnutls_session_t session;
    gnutls_certificate_credentials_t certificates;
    gnutls_psk_client_credentials_t keys;
};

static void must(int code)
{
    assert(code >= 0);
    (void)code;
}

/* ---- certificates ------------------------------------------------------- */

/* Make a key and a certificate; signer NULL: by itself, and a CA. */
static struct certificate make_files_of(const char *dir, const char *who,
                                        const struct certificate *signer)
{
    struct certificate made = certificate_make(
        &(struct certificate_setup){.common_name = who, .names = {"localhost"}},
        signer);

    certificate_write(&made, dir, who);
    return made;
}

void tls_client_make_files(const char *dir)
{
    static const char keys[] = "alice:000102030405060708090a0b0c0d0e0f"
                               "101112131415161718191a1b1c1d1e1f\n";
    struct certificate ca = make_files_of(dir, "ca", NULL);
    struct certificate server = make_files_of(dir, "server", &ca);
    struct certificate client = make_files_of(dir, "client", &ca);
    struct certificate other = make_files_of(dir, "other", NULL);

    certificate_write_file(dir, "keys.psk", keys, sizeof(keys) - 1);
    certificate_free(&ca);
    certificate_free(&server);
    certificate_free(&client);
    certificate_free(&other);
}

/* ---- the client --------------------------------------------------------- */

static void use_psk(struct tls_client *client, bool wrong)
{
    static char hex[] = "000102030405060708090a0b0c0d0e0f"
                        "101112131415161718191a1b1c1d1e1f";
    static char wrong_hex[] = "ff0102030405060708090a0b0c0d0e0f"
                              "101112131415161718191a1b1c1d1e1f";
    gnutls_datum_t key = {(unsigned char *)(wrong ? wrong_hex : hex), 64};

    must(gnutls_psk_allocate_client_credentials(&client->keys));
    must(gnutls_psk_set_client_credentials(client->keys, "alice", &key,
                                           GNUTLS_PSK_KEY_HEX));
    must(gnutls_credentials_set(client->session, GNUTLS_CRD_PSK, client->keys));
}

static void use_certificates(struct tls_client *client,
                             const struct tls_client_setup *options)
{
    char ca[PATH_MAX], certificate[PATH_MAX], key[PATH_MAX];

    (void)snprintf(ca, sizeof(ca), "%s/ca-cert.pem", options->dir);
    must(gnutls_certificate_allocate_credentials(&client->certificates));
    must(gnutls_certificate_set_x509_trust_file(client->certificates, ca,
                                                GNUTLS_X509_FMT_PEM));
    if (options->certificate) {
        (void)snprintf(certificate, sizeof(certificate), "%s/%s-cert.pem",
                       options->dir, options->certificate);
        (void)snprintf(key, sizeof(key), "%s/%s-key.pem", options->dir,
                       options->certificate);
        must(gnutls_certificate_set_x509_key_file(
            client->certificates, certificate, key, GNUTLS_X509_FMT_PEM));
    }
    must(gnutls_credentials_set(client->session, GNUTLS_CRD_CERTIFICATE,
                                client->certificates));
    gnutls_session_set_verify_cert(client->session, "localhost", 0);
}

struct tls_client *tls_client_start(const struct tls_client_setup *options,
                                    int fd)
{
    struct tls_client *client = calloc(1, sizeof(*client));
    const char *priority = options->priority;
    int code;

    assert(client);
    if (!priority)
        priority = options->psk ? "NORMAL:+ECDHE-PSK:+DHE-PSK:+PSK" : "NORMAL";
    must(gnutls_init(&client->session, GNUTLS_CLIENT | GNUTLS_NO_SIGNAL |
                                           GNUTLS_FORCE_CLIENT_CERT));
    must(gnutls_priority_set_direct(client->session, priority, NULL));
    if (options->psk)
        use_psk(client, options->wrong_psk);
    else
        use_certificates(client, options);
    gnutls_transport_set_int(client->session, fd);
    do {
        code = gnutls_handshake(client->session);
    } while (code < 0 && !gnutls_error_is_fatal(code));
    if (code == 0)
        return client;
    tls_client_free(client);
    return NULL;
}

ssize_t tls_client_send(struct tls_client *client, const void *data, size_t len)
{
    ssize_t sent;

    do {
        sent = gnutls_record_send(client->session, data, len);
    } while (sent < 0 && !gnutls_error_is_fatal((int)sent));
    return sent;
}

ssize_t tls_client_receive(struct tls_client *client, void *data, size_t len)
{
    ssize_t got;

    do {
        got = gnutls_record_recv(client->session, data, len);
    } while (got < 0 && !gnutls_error_is_fatal((int)got));
    return got;
}

const char *tls_client_cipher(const struct tls_client *client)
{
    return gnutls_cipher_get_name(gnutls_cipher_get(client->session));
}

void tls_client_bye(struct tls_client *client)
{
    must(gnutls_bye(client->session, GNUTLS_SHUT_WR));
}

void tls_client_update_key(struct tls_client *client)
{
    must(gnutls_session_key_update(client->session, GNUTLS_KU_PEER));
}

void tls_client_free(struct tls_client *client)
{
    if (!client)
        return;
    gnutls_deinit(client->session);
    if (client->certificates)
        gnutls_certificate_free_credentials(client->certificates);
    if (client->keys)
        gnutls_psk_free_client_credentials(client->keys);
    free(client);
}
