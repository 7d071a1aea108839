#include "COpenSSL.h"

EVP_PKEY *ambient_generate_p256(void) { return EVP_EC_gen("P-256"); }

int ambient_ctx_require_tls13(SSL_CTX *context) {
  return SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) &&
         SSL_CTX_set_max_proto_version(context, TLS1_3_VERSION);
}

int ambient_ctx_set_groups(SSL_CTX *context, const char *list) {
  return SSL_CTX_set1_groups_list(context, list) == 1;
}

int ambient_ctx_add_chain_certificate(SSL_CTX *context, X509 *certificate) {
  return SSL_CTX_add1_chain_cert(context, certificate) == 1;
}

void ambient_ctx_set_engine_modes(SSL_CTX *context) {
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_NO_AUTO_CHAIN);
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
