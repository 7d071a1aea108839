#include "COpenSSL.h"

#include <limits.h>
#include <string.h>

EVP_PKEY *ambient_generate_p256(void) { return EVP_EC_gen("P-256"); }

int ambient_ctx_set_versions(SSL_CTX *context, int allows_tls12) {
  return SSL_CTX_set_min_proto_version(context, allows_tls12 ? TLS1_2_VERSION : TLS1_3_VERSION) &&
         SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION) &&
         (!allows_tls12 || SSL_CTX_set_cipher_list(context,
                                                   "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:"
                                                   "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"));
}

int ambient_certificates_count(const STACK_OF(X509) *certificates) { return sk_X509_num(certificates); }

X509 *ambient_certificates_at(const STACK_OF(X509) *certificates, int index) {
  return sk_X509_value(certificates, index);
}

int ambient_ctx_set_groups(SSL_CTX *context, const char *list) {
  return SSL_CTX_set1_groups_list(context, list) == 1;
}

int ambient_ctx_add_chain_certificate(SSL_CTX *context, X509 *certificate) {
  return SSL_CTX_add1_chain_cert(context, certificate) == 1;
}

void ambient_ctx_set_engine_modes(SSL_CTX *context) {
  // Without SSL_MODE_RELEASE_BUFFERS, which allocates and frees for each record: the session frees them after many.
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_options(context, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_num_tickets(context, 0);
}

void ambient_ctx_set_max_certificate_list(SSL_CTX *context, long bytes) {
  SSL_CTX_set_max_cert_list(context, bytes);
}

int ambient_general_names_count(const GENERAL_NAMES *names) { return sk_GENERAL_NAME_num(names); }

const unsigned char *ambient_general_names_uri(const GENERAL_NAMES *names, int index, size_t *length) {
  const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, index);
  if (name == NULL || name->type != GEN_URI || name->d.uniformResourceIdentifier == NULL) return NULL;
  int count = ASN1_STRING_length(name->d.uniformResourceIdentifier);
  if (count < 0) return NULL;
  *length = (size_t)count;
  return ASN1_STRING_get0_data(name->d.uniformResourceIdentifier);
}

GENERAL_NAMES *ambient_general_names_new(void) { return sk_GENERAL_NAME_new_null(); }

int ambient_general_names_add(GENERAL_NAMES *names, int kind, const unsigned char *bytes, int length) {
  GENERAL_NAME *name = GENERAL_NAME_new();
  ASN1_IA5STRING *text = ASN1_IA5STRING_new();
  if (name == NULL || text == NULL || !ASN1_STRING_set(text, bytes, length)) {
    GENERAL_NAME_free(name);
    ASN1_IA5STRING_free(text);
    return 0;
  }
  GENERAL_NAME_set0_value(name, kind, text);
  if (sk_GENERAL_NAME_push(names, name) <= 0) {
    GENERAL_NAME_free(name);
    return 0;
  }
  return 1;
}

int ambient_set_server_name(SSL *ssl, const char *name) { return SSL_set_tlsext_host_name(ssl, name) == 1; }

int ambient_request_add_uri(X509_REQ *request, const unsigned char *uri, int length) {
  STACK_OF(X509_EXTENSION) *extensions = NULL;
  GENERAL_NAMES *names = ambient_general_names_new();
  int added = names != NULL && ambient_general_names_add(names, GEN_URI, uri, length) &&
              X509V3_add1_i2d(&extensions, NID_subject_alt_name, names, 1, X509V3_ADD_DEFAULT) == 1 &&
              X509_REQ_add_extensions(request, extensions) == 1;
  sk_X509_EXTENSION_pop_free(extensions, X509_EXTENSION_free);
  GENERAL_NAMES_free(names);
  return added;
}

int ambient_seal(const unsigned char *key, const unsigned char *nonce, const unsigned char *associated,
                 size_t associated_count, const unsigned char *plain, size_t count, unsigned char *sealed) {
  if (count > INT_MAX - 16 || associated_count > INT_MAX) return 0;
  EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
  int length = 0;
  int done = context != NULL && EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
             EVP_EncryptUpdate(context, NULL, &length, associated, (int)associated_count) == 1 &&
             EVP_EncryptUpdate(context, sealed, &length, plain, (int)count) == 1 && (size_t)length == count &&
             EVP_EncryptFinal_ex(context, sealed + count, &length) == 1 &&
             EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, sealed + count) == 1;
  EVP_CIPHER_CTX_free(context);
  return done;
}

int ambient_unseal(const unsigned char *key, const unsigned char *nonce, const unsigned char *associated,
                   size_t associated_count, const unsigned char *sealed, size_t count, unsigned char *plain) {
  if (count > INT_MAX - 16 || associated_count > INT_MAX) return 0;
  EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
  unsigned char tag[16];
  int length = 0;
  memcpy(tag, sealed + count, sizeof tag);
  int done = context != NULL && EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1 &&
             EVP_DecryptUpdate(context, NULL, &length, associated, (int)associated_count) == 1 &&
             EVP_DecryptUpdate(context, plain, &length, sealed, (int)count) == 1 && (size_t)length == count &&
             EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 16, tag) == 1 &&
             EVP_DecryptFinal_ex(context, plain + count, &length) == 1;
  EVP_CIPHER_CTX_free(context);
  return done;
}

int ambient_derive_key(const unsigned char *secret, size_t secret_count, const unsigned char *salt, size_t salt_count,
                       const unsigned char *info, size_t info_count, unsigned char *key) {
  unsigned char extracted[32];
  unsigned char block[257];
  unsigned int length = 0;
  if (info_count > 256 || salt_count > INT_MAX) return 0;
  memcpy(block, info, info_count);
  block[info_count] = 1;
  int done = HMAC(EVP_sha256(), salt, (int)salt_count, secret, secret_count, extracted, &length) != NULL &&
             HMAC(EVP_sha256(), extracted, sizeof extracted, block, info_count + 1, key, &length) != NULL;
  OPENSSL_cleanse(extracted, sizeof extracted);
  return done;
}
