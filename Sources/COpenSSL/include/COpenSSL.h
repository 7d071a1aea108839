// OpenSSL's libssl and libcrypto, with functions for the macros that Swift cannot import.
#ifndef AMBIENT_COPENSSL_H
#define AMBIENT_COPENSSL_H
#include "ambient_bio.h"
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>
#endif
