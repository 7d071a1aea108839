// The least that a proxy in user space can do with a captured connection: it finds out where the connection was going,
// connects there, and copies each byte in and out once. No TLS, no HTTP/2, no policy, no log. What it reaches is the
// bound for everything that does more, on the machine and with the kernel it runs on.
//
//   relay PORT THREADS
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MARK = 1337, BUFFER = 256 << 10, EVENTS = 256 };

struct pair;

// One end of a pair, and what is on its way to the other one.
struct end {
  int socket;
  struct pair *pair;
  struct end *other;
  char *waiting;       // read here and not yet taken by the other end
  size_t begin, count; // of `waiting`
  int finished;        // nothing more will be read here
  int connecting;
};

struct pair {
  struct end ends[2];
  struct pair *next_dead;
};

struct thread {
  int epoll, listener;
  char *scratch;
  struct pair *dead;
};

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void watch(struct thread *thread, struct end *end) {
  // Edges: each state is asked for once, and both directions are tried at each event.
  struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = end};
  if (epoll_ctl(thread->epoll, EPOLL_CTL_ADD, end->socket, &event) < 0) fail("epoll_ctl");
}

static void finish(struct thread *thread, struct pair *pair) {
  if (pair->ends[0].socket < 0) return;
  for (int i = 0; i < 2; i++) {
    close(pair->ends[i].socket);
    pair->ends[i].socket = -1;
    free(pair->ends[i].waiting);
    pair->ends[i].waiting = NULL;
  }
  // Events of the same round may still point here.
  pair->next_dead = thread->dead;
  thread->dead = pair;
}

// Moves what can be moved from one end to the other; returns -1 when the connection is broken.
static int move(struct thread *thread, struct end *from) {
  struct end *to = from->other;
  if (from->connecting || to->connecting) return 0;
  for (;;) {
    while (from->count > 0) {
      ssize_t sent = send(to->socket, from->waiting + from->begin, from->count, MSG_NOSIGNAL);
      if (sent < 0) return errno == EAGAIN ? 0 : -1;
      from->begin += sent;
      from->count -= sent;
    }
    if (from->waiting) {
      free(from->waiting);
      from->waiting = NULL;
      if (from->finished) shutdown(to->socket, SHUT_WR);
    }
    if (from->finished) return 0;
    ssize_t got = recv(from->socket, thread->scratch, BUFFER, 0);
    if (got < 0) return errno == EAGAIN ? 0 : -1;
    if (got == 0) {
      from->finished = 1;
      shutdown(to->socket, SHUT_WR);
      return 0;
    }
    ssize_t sent = send(to->socket, thread->scratch, got, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) return -1;
    if (sent < 0) sent = 0;
    if (sent < got) {
      from->count = got - sent;
      from->begin = 0;
      from->waiting = malloc(from->count);
      if (!from->waiting) fail("malloc");
      memcpy(from->waiting, thread->scratch + sent, from->count);
    } else if (got < BUFFER) {
      return 0; // The socket was empty, and says when it is not.
    }
  }
}

static void accept_all(struct thread *thread) {
  for (int i = 0; i < 64; i++) {
    int client = accept4(thread->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client < 0) return;
    struct sockaddr_in target;
    socklen_t length = sizeof target;
    int server = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int mark = MARK, on = 1;
    if (server < 0 || getsockopt(client, SOL_IP, SO_ORIGINAL_DST, &target, &length) < 0) fail("captured connection");
    setsockopt(server, SOL_SOCKET, SO_MARK, &mark, sizeof mark);
    setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    int connecting = connect(server, (struct sockaddr *)&target, sizeof target) < 0;
    if (connecting && errno != EINPROGRESS) {
      close(client);
      close(server);
      continue;
    }
    struct pair *pair = calloc(1, sizeof *pair);
    if (!pair) fail("calloc");
    pair->ends[0] = (struct end){.socket = client, .pair = pair, .other = &pair->ends[1]};
    pair->ends[1] = (struct end){.socket = server, .pair = pair, .other = &pair->ends[0], .connecting = connecting};
    watch(thread, &pair->ends[0]);
    watch(thread, &pair->ends[1]);
  }
}

static void *serve(void *argument) {
  struct thread *thread = argument;
  struct epoll_event events[EVENTS];
  for (;;) {
    int count = epoll_wait(thread->epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      struct end *end = events[i].data.ptr;
      if (!end) {
        accept_all(thread);
        continue;
      }
      struct pair *pair = end->pair;
      if (end->socket < 0) continue;
      if (end->connecting && events[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) end->connecting = 0;
      if (events[i].events & EPOLLERR || move(thread, &pair->ends[0]) < 0 || move(thread, &pair->ends[1]) < 0 ||
          (pair->ends[0].finished && pair->ends[1].finished && !pair->ends[0].count && !pair->ends[1].count))
        finish(thread, pair);
    }
    while (thread->dead) {
      struct pair *pair = thread->dead;
      thread->dead = pair->next_dead;
      free(pair);
    }
  }
  return NULL;
}

int main(int count, char **arguments) {
  if (count != 3) {
    fprintf(stderr, "usage: relay PORT THREADS\n");
    return 2;
  }
  int threads = atoi(arguments[2]);
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(arguments[1]))};
  for (int i = 0; i < threads; i++) {
    struct thread *thread = calloc(1, sizeof *thread);
    int on = 1;
    thread->scratch = malloc(BUFFER);
    thread->epoll = epoll_create1(EPOLL_CLOEXEC);
    thread->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(thread->listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(thread->listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(thread->listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(thread->listener, 4096) < 0)
      fail("listen");
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(thread->epoll, EPOLL_CTL_ADD, thread->listener, &event) < 0) fail("epoll_ctl");
    pthread_t handle;
    if (pthread_create(&handle, NULL, serve, thread) != 0) fail("pthread_create");
  }
  pause();
  return 0;
}
