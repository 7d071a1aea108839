// Kernel interfaces that Swift's Glibc module cannot import: macros with arguments, variadic calls,
// and structures whose layout depends on CMSG_* arithmetic.
#ifndef AMBIENT_CLINUX_H
#define AMBIENT_CLINUX_H

#include <malloc.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/types.h>
#include <sys/un.h>

// Moves the calling thread into the network namespace `fd`. Returns 0, or -1 with errno.
int ambient_setns_net(int fd);
// New network namespace for the calling thread. Returns 0, or -1 with errno.
int ambient_unshare_net(void);
// 1 when `fd` is a network namespace, else 0 (NS_GET_NSTYPE).
int ambient_is_network_namespace(int fd);

// Sends one packet with `passed` descriptors, 253 at most. MSG_NOSIGNAL. Returns bytes, or -1 with errno.
ssize_t ambient_send_packet(int socket, const void *bytes, size_t count, const int *descriptors, int passed);
// Receives one packet and up to `capacity` descriptors, all close-on-exec. `*received` gets their number,
// `*flags` the message flags (MSG_TRUNC, MSG_CTRUNC). Returns bytes, or -1 with errno.
ssize_t ambient_receive_packet(int socket, void *bytes, size_t count, int *descriptors, int capacity, int *received,
                               int *flags);

// The destination before REDIRECT, by SO_ORIGINAL_DST. `storage` must hold a sockaddr_in6. Returns 0, or -1 with errno.
int ambient_original_destination_v4(int socket, struct sockaddr_in *address);
int ambient_original_destination_v6(int socket, struct sockaddr_in6 *address);

// The network namespace a socket belongs to (SIOCGSKNS), as a new descriptor with close-on-exec, or -1 with errno.
int ambient_namespace_of_socket(int socket);

// Non-variadic forms.
int ambient_open(const char *path, int flags, mode_t mode);
int ambient_fcntl_int(int fd, int command, int argument);

// accept4 with SOCK_NONBLOCK and SOCK_CLOEXEC. Returns the descriptor, or -1 with errno.
int ambient_accept(int listener, struct sockaddr *address, socklen_t *length);

// A pipe, non-blocking and close-on-exec, of `capacity` bytes where the system allows it. Returns 0, or -1 with errno.
int ambient_pipe(int ends[2], int capacity);

// Starts a program whose parent is nobody who is here: it belongs to whoever takes in orphans, such as the service manager.
// Signals are unblocked for it. Returns its process id, or -1 with errno, also where the program cannot be executed.
int ambient_start_orphan(const char *path, char *const arguments[], char *const environment[]);

// pidfd_open(2), close-on-exec.
int ambient_open_process(int process);

// pidfd_send_signal(2).
int ambient_signal_process(int descriptor, int signal);

// memfd_create(2), close-on-exec.
int ambient_memory_file(const char *name);

// Moves up to `count` bytes between a socket and a pipe without copying them to user space. Returns bytes, 0 at the end
// of the source, or -1 with errno.
ssize_t ambient_splice(int from, int to, size_t count);

// Unmaps, until they are touched again, the pages of the program and its libraries that cannot be written to.
void ambient_release_unchanged_pages(void);

// Names the calling thread; longer than 15 bytes is cut by the caller.
void ambient_name_thread(const char *name);

#endif
