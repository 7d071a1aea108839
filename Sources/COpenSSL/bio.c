#include "ambient_bio.h"

#include <pthread.h>
#include <string.h>

static int ambient_bio_read(BIO *bio, char *bytes, size_t count, size_t *done) {
  struct ambient_bio_state *state = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  *done = 0;
  if (state->input_length == 0) {
    if (!state->input_ended) BIO_set_retry_read(bio);
    return 0;
  }
  size_t taken = count < state->input_length ? count : state->input_length;
  memcpy(bytes, state->input, taken);
  state->input += taken;
  state->input_length -= taken;
  *done = taken;
  return 1;
}

static int ambient_bio_write(BIO *bio, const char *bytes, size_t count, size_t *done) {
  struct ambient_bio_state *state = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  *done = 0;
  size_t room = state->output_capacity - state->output_length;
  if (room == 0) {
    BIO_set_retry_write(bio);
    return 0;
  }
  size_t put = count < room ? count : room;
  memcpy(state->output + state->output_length, bytes, put);
  state->output_length += put;
  *done = put;
  return 1;
}

static long ambient_bio_control(BIO *bio, int command, long number, void *pointer) {
  (void)bio;
  (void)number;
  (void)pointer;
  // libssl flushes after each flight and asks nothing else that matters here.
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static int ambient_bio_create(BIO *bio) {
  BIO_set_init(bio, 1);
  return 1;
}

static BIO_METHOD *method;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_method(void) {
  method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "lent memory");
  if (!method) return;
  BIO_meth_set_read_ex(method, ambient_bio_read);
  BIO_meth_set_write_ex(method, ambient_bio_write);
  BIO_meth_set_ctrl(method, ambient_bio_control);
  BIO_meth_set_create(method, ambient_bio_create);
}

BIO *ambient_bio_new(struct ambient_bio_state *state) {
  pthread_once(&once, make_method);
  BIO *bio = method ? BIO_new(method) : NULL;
  if (bio) BIO_set_data(bio, state);
  return bio;
}
