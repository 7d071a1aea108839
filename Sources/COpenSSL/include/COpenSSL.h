// OpenSSL's libssl and libcrypto, with functions for the macros that Swift cannot import.
#ifndef AMBIENT_COPENSSL_H
#define AMBIENT_COPENSSL_H
#include "ambient_bio.h"
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
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

// TLS 1.3, and 1.2 beside it where asked for, with ECDHE and AES-GCM alone.
int ambient_ctx_set_versions(SSL_CTX *context, int allows_tls12);
int ambient_ctx_set_groups(SSL_CTX *context, const char *list);
int ambient_ctx_add_chain_certificate(SSL_CTX *context, X509 *certificate);
// Non-blocking, memory-lean, no automatic chain, no tickets, no renegotiation, no session cache.
void ambient_ctx_set_engine_modes(SSL_CTX *context);
void ambient_ctx_set_max_certificate_list(SSL_CTX *context, long bytes);
// Sends this DNS name as SNI.
int ambient_set_server_name(SSL *ssl, const char *name);

// Chains.

int ambient_certificates_count(const STACK_OF(X509) *certificates);
// The certificate at this index, still the stack's own; NULL past the end.
X509 *ambient_certificates_at(const STACK_OF(X509) *certificates, int index);

// Subject alternative names.

int ambient_general_names_count(const GENERAL_NAMES *names);
// The bytes of a URI name, which the names own; NULL where the entry at this index is of another kind.
const unsigned char *ambient_general_names_uri(const GENERAL_NAMES *names, int index, size_t *length);
GENERAL_NAMES *ambient_general_names_new(void);
// Appends a name that is an IA5String (`GEN_URI`, `GEN_DNS`, `GEN_EMAIL`), copied as it is.
int ambient_general_names_add(GENERAL_NAMES *names, int kind, const unsigned char *bytes, int length);

// Sealing. 1 for success, 0 for failure.

// AES-256-GCM with a key of 32 bytes and a nonce of 12: `sealed` gets `count` bytes and a tag of 16.
int ambient_seal(const unsigned char *key, const unsigned char *nonce, const unsigned char *associated,
                 size_t associated_count, const unsigned char *plain, size_t count, unsigned char *sealed);
// The reverse; `count` is that of `plain`. 0 also where the bytes are not what was sealed.
int ambient_unseal(const unsigned char *key, const unsigned char *nonce, const unsigned char *associated,
                   size_t associated_count, const unsigned char *sealed, size_t count, unsigned char *plain);
// HKDF with SHA-256 (RFC 5869), 32 bytes. `info_count` is at most 256.
int ambient_derive_key(const unsigned char *secret, size_t secret_count, const unsigned char *salt, size_t salt_count,
                       const unsigned char *info, size_t info_count, unsigned char *key);

// Requests.

// Asks for one critical subject alternative name, a URI. 1 for success, 0 for failure.
int ambient_request_add_uri(X509_REQ *request, const unsigned char *uri, int length);

#endif
