/* SPDX-License-Identifier: BSD-2-Clause */
#include "support/certificates.h"

#include <arpa/inet.h>
#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void must(int code)
{
    assert(code >= 0);
    (void)code;
}

static void add_names(gnutls_x509_crt_t certificate,
                      const struct certificate_setup *setup)
{
    unsigned char address[16];
    bool is_v4;

    for (size_t i = 0; i < CERTIFICATE_NAMES_MAX && setup->names[i]; i++)
        must(gnutls_x509_crt_set_subject_alt_name(
            certificate, GNUTLS_SAN_DNSNAME, setup->names[i],
            (unsigned)strlen(setup->names[i]), GNUTLS_FSAN_APPEND));
    if (!setup->address)
        return;
    is_v4 = inet_pton(AF_INET, setup->address, address) == 1;
    must(inet_pton(is_v4 ? AF_INET : AF_INET6, setup->address, address) - 1);
    must(gnutls_x509_crt_set_subject_alt_name(certificate, GNUTLS_SAN_IPADDRESS,
                                              address, is_v4 ? 4 : 16,
                                              GNUTLS_FSAN_APPEND));
}

struct certificate certificate_make(const struct certificate_setup *setup,
                                    const struct certificate *signer)
{
    static atomic_uchar count;
    unsigned char serial[2] = {1, atomic_fetch_add(&count, 1)};
    bool is_default = setup->starts_s == 0 && setup->ends_s == 0;
    struct certificate made;

    must(gnutls_x509_privkey_init(&made.key));
    must(gnutls_x509_privkey_generate(made.key, GNUTLS_PK_ECDSA, 256, 0));
    must(gnutls_x509_crt_init(&made.certificate));
    must(gnutls_x509_crt_set_version(made.certificate, 3));
    must(gnutls_x509_crt_set_serial(made.certificate, serial, sizeof(serial)));
    must(gnutls_x509_crt_set_activation_time(
        made.certificate, time(NULL) + (is_default ? -3600 : setup->starts_s)));
    must(gnutls_x509_crt_set_expiration_time(
        made.certificate, time(NULL) + (is_default ? 36000 : setup->ends_s)));
    if (setup->common_name)
        must(gnutls_x509_crt_set_dn_by_oid(
            made.certificate, GNUTLS_OID_X520_COMMON_NAME, 0,
            setup->common_name, (unsigned)strlen(setup->common_name)));
    add_names(made.certificate, setup);
    must(gnutls_x509_crt_set_basic_constraints(made.certificate, !signer, -1));
    must(gnutls_x509_crt_set_key(made.certificate, made.key));
    must(gnutls_x509_crt_sign2(
        made.certificate, signer ? signer->certificate : made.certificate,
        signer ? signer->key : made.key, GNUTLS_DIG_SHA256, 0));
    return made;
}

void certificate_write_file(const char *dir, const char *name, const void *data,
                            size_t len)
{
    char path[PATH_MAX];
    FILE *file;
    size_t written;
    int fd;

    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    /* Keys that others can read are refused. */
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    file = fd < 0 ? NULL : fdopen(fd, "w");
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
    certificate_write_file(dir, name, pem->data, pem->size);
    gnutls_free(pem->data);
}

void certificate_write(const struct certificate *certificate, const char *dir,
                       const char *who)
{
    gnutls_datum_t pem;

    must(gnutls_x509_crt_export2(certificate->certificate, GNUTLS_X509_FMT_PEM,
                                 &pem));
    write_pem(dir, who, "cert", &pem);
    must(gnutls_x509_privkey_export2(certificate->key, GNUTLS_X509_FMT_PEM,
                                     &pem));
    write_pem(dir, who, "key", &pem);
}

void certificate_free(struct certificate *certificate)
{
    gnutls_x509_crt_deinit(certificate->certificate);
    gnutls_x509_privkey_deinit(certificate->key);
}
