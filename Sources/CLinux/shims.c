#define _GNU_SOURCE
#include "CLinux.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <linux/nsfs.h>
#include <linux/sockios.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

// From <linux/netfilter_ipv4.h> and <linux/netfilter_ipv6/ip6_tables.h>, which cannot be included beside
// <netinet/in.h>. Both have this value at their own level.
#define AMBIENT_SO_ORIGINAL_DST 80

// SCM_MAX_FD: the kernel never passes more in one message, so nothing is ever cut off unseen.
#define AMBIENT_MAX_DESCRIPTORS 253

int ambient_setns_net(int fd) { return setns(fd, CLONE_NEWNET); }

int ambient_unshare_net(void) { return unshare(CLONE_NEWNET); }

int ambient_is_network_namespace(int fd) { return ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET; }

ssize_t ambient_send_packet(int socket, const void *bytes, size_t count, const int *descriptors, int passed) {
  struct iovec part = {.iov_base = (void *)bytes, .iov_len = count};
  union {
    char bytes[CMSG_SPACE(sizeof(int) * AMBIENT_MAX_DESCRIPTORS)];
    struct cmsghdr alignment;
  } control;
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (passed > AMBIENT_MAX_DESCRIPTORS) {
    errno = E2BIG;
    return -1;
  }
  if (passed > 0) {
    size_t size = sizeof(int) * (size_t)passed;
    memset(&control, 0, sizeof control);
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(size);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(header), descriptors, size);
  }
  return sendmsg(socket, &message, MSG_NOSIGNAL);
}

ssize_t ambient_receive_packet(int socket, void *bytes, size_t count, int *descriptors, int capacity, int *received,
                               int *flags) {
  struct iovec part = {.iov_base = bytes, .iov_len = count};
  union {
    char bytes[CMSG_SPACE(sizeof(int) * AMBIENT_MAX_DESCRIPTORS)];
    struct cmsghdr alignment;
  } control;
  struct msghdr message = {
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  *received = 0;
  *flags = 0;
  ssize_t result = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  if (result < 0) return result;
  *flags = message.msg_flags;
  for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    size_t held = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t index = 0; index < held; index++) {
      int descriptor;
      memcpy(&descriptor, CMSG_DATA(header) + index * sizeof(int), sizeof(int));
      // Surplus descriptors are ours already: closing them here is the only way not to leak them. They are still
      // counted, so that the caller sees that too many came.
      if (*received < capacity) {
        descriptors[*received] = descriptor;
      } else {
        close(descriptor);
      }
      (*received)++;
    }
  }
  return result;
}

int ambient_namespace_of_socket(int socket) { return ioctl(socket, SIOCGSKNS); }

int ambient_original_destination_v4(int socket, struct sockaddr_in *address) {
  socklen_t length = sizeof *address;
  return getsockopt(socket, SOL_IP, AMBIENT_SO_ORIGINAL_DST, address, &length);
}

int ambient_original_destination_v6(int socket, struct sockaddr_in6 *address) {
  socklen_t length = sizeof *address;
  return getsockopt(socket, SOL_IPV6, AMBIENT_SO_ORIGINAL_DST, address, &length);
}

int ambient_open(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }

int ambient_fcntl_int(int fd, int command, int argument) { return fcntl(fd, command, argument); }

// Only segments that were never writable: their pages are the file's, whatever happens. In the others are relocations.
static int release_object(struct dl_phdr_info *object, size_t size, void *page) {
  (void)size;
  // The kernel's own page, which is no file's.
  if (strncmp(object->dlpi_name, "linux-vdso", 10) == 0) return 0;
  uintptr_t mask = ~(*(uintptr_t *)page - 1);
  for (int i = 0; i < object->dlpi_phnum; i++) {
    const ElfW(Phdr) *segment = &object->dlpi_phdr[i];
    if (segment->p_type != PT_LOAD || segment->p_flags & PF_W) continue;
    uintptr_t start = object->dlpi_addr + segment->p_vaddr;
    uintptr_t end = start + segment->p_memsz;
    start = (start + ~mask) & mask;
    end &= mask;
    if (end > start) madvise((void *)start, end - start, MADV_DONTNEED);
  }
  return 0;
}

void ambient_release_unchanged_pages(void) {
  uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
  dl_iterate_phdr(release_object, &page);
}

void ambient_name_thread(const char *name) { pthread_setname_np(pthread_self(), name); }

int ambient_accept(int listener, struct sockaddr *address, socklen_t *length) {
  return accept4(listener, address, length, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

int ambient_pipe(int ends[2], int capacity) {
  if (pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) return -1;
  // Refused above /proc/sys/fs/pipe-user-pages-soft for the unprivileged: the default size works too.
  fcntl(ends[1], F_SETPIPE_SZ, capacity);
  return 0;
}

// What the processes between here and the program say: its id, or why there is none.
struct orphan_report {
  int process;
  int error;
};

int ambient_start_orphan(const char *path, char *const arguments[], char *const environment[]) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return -1;
  pid_t between = fork();
  if (between < 0) {
    int error = errno;
    close(ends[0]);
    close(ends[1]);
    errno = error;
    return -1;
  }
  if (between == 0) {
    // Other threads of this process do not exist here, nor does what they held: only calls that need nothing of it.
    pid_t program = fork();
    if (program == 0) {
      sigset_t none;
      sigemptyset(&none);
      sigprocmask(SIG_SETMASK, &none, NULL);
      // Nor is it hit by what is meant for the group of who started it.
      setsid();
      execve(path, arguments, environment);
      struct orphan_report failure = {.process = 0, .error = errno};
      _exit(write(ends[1], &failure, sizeof failure) == sizeof failure ? 127 : 126);
    }
    struct orphan_report report = {.process = program < 0 ? 0 : program, .error = program < 0 ? errno : 0};
    _exit(write(ends[1], &report, sizeof report) == sizeof report ? 0 : 1);
  }
  close(ends[1]);
  while (waitpid(between, NULL, 0) < 0 && errno == EINTR) {}
  // Until the end: both have written, or the program has been executed, which closes its copy.
  struct orphan_report report;
  int process = 0, error = 0;
  ssize_t count;
  while ((count = read(ends[0], &report, sizeof report)) == sizeof report || (count < 0 && errno == EINTR)) {
    if (count < 0) continue;
    if (report.process) process = report.process;
    if (report.error) error = report.error;
  }
  close(ends[0]);
  if (error || !process) {
    errno = error ? error : ECHILD;
    return -1;
  }
  return process;
}

int ambient_open_process(int process) { return pidfd_open(process, 0); }

int ambient_signal_process(int descriptor, int signal) { return pidfd_send_signal(descriptor, signal, NULL, 0); }

int ambient_memory_file(const char *name) { return memfd_create(name, MFD_CLOEXEC); }

ssize_t ambient_splice(int from, int to, size_t count) {
  return splice(from, NULL, to, NULL, count, SPLICE_F_NONBLOCK | SPLICE_F_MOVE);
}
