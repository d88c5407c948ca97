/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * certificates - keys and certificates for tests: good ones, and others.
 */
#ifndef SUPPORT_CERTIFICATES_H
#define SUPPORT_CERTIFICATES_H

#include <gnutls/x509.h>
#include <stddef.h>

enum { CERTIFICATE_NAMES_MAX = 4 };

struct certificate_setup {
    const char *common_name;                  /* or NULL */
    const char *names[CERTIFICATE_NAMES_MAX]; /* NULL: no more of them */
    const char *address;                      /* numeric, or NULL */
    int starts_s, ends_s; /* from now; both 0: an hour ago, in ten hours */
};

struct certificate {
    gnutls_x509_crt_t certificate;
    gnutls_x509_privkey_t key;
};

/* Make one, signed by signer; NULL: by itself, and an authority. */
struct certificate certificate_make(const struct certificate_setup *setup,
                                    const struct certificate *signer);

/* Write who-cert.pem and who-key.pem into dir. */
void certificate_write(const struct certificate *certificate, const char *dir,
                       const char *who);

/* Free it. */
void certificate_free(struct certificate *certificate);

/* Write a file into dir. */
void certificate_write_file(const char *dir, const char *name, const void *data,
                            size_t len);

#endif
