/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/tls_client.h"

#include <assert.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

static void write_file(const char *dir, const char *name, const void *data,
                       size_t len)
{
    char path[PATH_MAX];
    FILE *file;
    size_t written;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    file = fopen(path, "we");
    assert(file);
    written = fwrite(data, 1, len, file);
    assert(written == len);
    (void)fclose(file);
}

static void write_pem(const char *dir, const char *who, const char *kind,
                      gnutls_datum_t *pem)
{
    char name[64];

    (void)snprintf(name, sizeof(name), "%s-%s.pem", who, kind);
    write_file(dir, name, pem->data, pem->size);
    gnutls_free(pem->data);
}

struct identity {
    gnutls_x509_crt_t certificate;
    gnutls_x509_privkey_t key;
};

/* Make a key and a certificate; signer NULL: by itself, and a CA. */
static struct identity make_identity(const char *dir, const char *who,
                                     const struct identity *signer)
{
    static unsigned char serial = 1;
    struct identity identity;
    gnutls_datum_t pem;

    must(gnutls_x509_privkey_init(&identity.key));
    must(gnutls_x509_privkey_generate(identity.key, GNUTLS_PK_ECDSA, 256, 0));
    must(gnutls_x509_crt_init(&identity.certificate));
    must(gnutls_x509_crt_set_version(identity.certificate, 3));
    must(gnutls_x509_crt_set_serial(identity.certificate, &serial, 1));
    serial++;
    must(gnutls_x509_crt_set_activation_time(identity.certificate,
                                             time(NULL) - 3600));
    must(gnutls_x509_crt_set_expiration_time(identity.certificate,
                                             time(NULL) + 36000));
    must(gnutls_x509_crt_set_dn_by_oid(identity.certificate,
                                       GNUTLS_OID_X520_COMMON_NAME, 0, who,
                                       (unsigned)strlen(who)));
    must(gnutls_x509_crt_set_subject_alt_name(identity.certificate,
                                              GNUTLS_SAN_DNSNAME, "localhost",
                                              9, GNUTLS_FSAN_SET));
    must(gnutls_x509_crt_set_basic_constraints(identity.certificate, !signer,
                                               -1));
    must(gnutls_x509_crt_set_key(identity.certificate, identity.key));
    must(gnutls_x509_crt_sign2(
        identity.certificate,
        signer ? signer->certificate : identity.certificate,
        signer ? signer->key : identity.key, GNUTLS_DIG_SHA256, 0));
    must(gnutls_x509_crt_export2(identity.certificate, GNUTLS_X509_FMT_PEM,
                                 &pem));
    write_pem(dir, who, "cert", &pem);
    must(gnutls_x509_privkey_export2(identity.key, GNUTLS_X509_FMT_PEM, &pem));
    write_pem(dir, who, "key", &pem);
    return identity;
}

static void free_identity(struct identity *identity)
{
    gnutls_x509_crt_deinit(identity->certificate);
    gnutls_x509_privkey_deinit(identity->key);
}

void tls_client_make_files(const char *dir)
{
    static const char keys[] = "alice:000102030405060708090a0b0c0d0e0f"
                               "101112131415161718191a1b1c1d1e1f\n";
    struct identity ca = make_identity(dir, "ca", NULL);
    struct identity server = make_identity(dir, "server", &ca);
    struct identity client = make_identity(dir, "client", &ca);
    struct identity other = make_identity(dir, "other", NULL);

    write_file(dir, "keys.psk", keys, sizeof(keys) - 1);
    free_identity(&ca);
    free_identity(&server);
    free_identity(&client);
    free_identity(&other);
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
