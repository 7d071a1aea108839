// A BIO over memory that somebody else owns: TLS records are read from, and written to, buffers that the caller lends for
// the length of one call, so that an idle session holds none and one system call carries many records.
#ifndef AMBIENT_BIO_H
#define AMBIENT_BIO_H

#include <openssl/bio.h>
#include <stddef.h>
#include <stdint.h>

struct ambient_bio_state {
  const uint8_t *input;    // ciphertext that is left to be read
  size_t input_length;
  uint8_t *output;         // where ciphertext goes
  size_t output_length;    // bytes there
  size_t output_capacity;
  int input_ended;         // the peer has closed: an empty input is the end, not a pause
};

// A new BIO that uses `state`, which must outlive it. NULL when memory is short.
BIO *ambient_bio_new(struct ambient_bio_state *state);

#endif
