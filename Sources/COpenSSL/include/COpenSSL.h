// OpenSSL's libssl and libcrypto, with functions for the macros that Swift cannot import.
#ifndef AMBIENT_COPENSSL_H
#define AMBIENT_COPENSSL_H
#include "ambient_bio.h"
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

// Keys.

// A fresh ECDSA key on P-256, or NULL.
EVP_PKEY *ambient_generate_p256(void);

// Contexts. Those that return int: 1 for success, 0 for failure.

int ambient_ctx_require_tls13(SSL_CTX *context);
int ambient_ctx_set_groups(SSL_CTX *context, const char *list);
int ambient_ctx_add_chain_certificate(SSL_CTX *context, X509 *certificate);
// Non-blocking, memory-lean, no automatic chain, no tickets, no renegotiation, no session cache.
void ambient_ctx_set_engine_modes(SSL_CTX *context);
void ambient_ctx_set_max_certificate_list(SSL_CTX *context, long bytes);
// Sends this DNS name as SNI.
int ambient_set_server_name(SSL *ssl, const char *name);

// Subject alternative names.

int ambient_general_names_count(const GENERAL_NAMES *names);
// The bytes of a URI name, which the names own; NULL where the entry at this index is of another kind.
const unsigned char *ambient_general_names_uri(const GENERAL_NAMES *names, int index, size_t *length);
GENERAL_NAMES *ambient_general_names_new(void);
// Appends a name that is an IA5String (`GEN_URI`, `GEN_DNS`, `GEN_EMAIL`), copied as it is.
int ambient_general_names_add(GENERAL_NAMES *names, int kind, const unsigned char *bytes, int length);

// Requests.

// Asks for one critical subject alternative name, a URI. 1 for success, 0 for failure.
int ambient_request_add_uri(X509_REQ *request, const unsigned char *uri, int length);

#endif
