/* credentials.h - what a client shows and trusts, held in memory; internal to transport.
 *
 * The PEM files are read once. A session that ends comes back with what has worked, also when the
 * files were replaced by useless ones in the meantime. Immutable and counted: any thread may keep
 * and release.
 */
#ifndef TRANSPORT_CREDENTIALS_H
#define TRANSPORT_CREDENTIALS_H

#include <stddef.h>
#include <stdint.h>

#include "transport/tls.h"

struct credentials;

/* Reads and checks the files: the key must be the certificate's. cert and key NULL: no client
 * certificate. 0, or -ENOENT, -EBADMSG, -EKEYREJECTED, ... with the file's name in why.
 * credentials_release the result. */
int credentials_load(const char *ca_path, const char *cert_path, const char *key_path,
                     struct credentials **out, char *why, size_t why_size);
struct credentials *credentials_keep(struct credentials *c);
void credentials_release(struct credentials *c); /* wipes; NULL is allowed */

int credentials_have_cert(const struct credentials *c);
/* Unix time at which our certificate ends; 0: there is none. */
int64_t credentials_expiry(const struct credentials *c);
/* Parses into initialised objects (cert and key untouched without a certificate). 0 or -errno. */
int credentials_parse(const struct credentials *c, mbedtls_x509_crt *ca, mbedtls_x509_crt *cert,
                      mbedtls_pk_context *key, struct tls_rng *rng, char *why, size_t why_size);

#endif
