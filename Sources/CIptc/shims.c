#define _GNU_SOURCE
#include "CIptc.h"

#include <errno.h>
#include <libiptc/libip6tc.h>
#include <libiptc/libiptc.h>
#include <linux/netfilter/nf_nat.h>
#include <linux/netfilter/xt_CT.h>
#include <linux/netfilter/xt_connmark.h>
#include <linux/netfilter/xt_mark.h>
#include <linux/netfilter/xt_tcpudp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// The Swift side (EntryLayout.swift, ExtensionCodec.swift) writes and reads entries at these offsets. An architecture
// where one differs must not build.
#define LAYOUT(type, field, offset) _Static_assert(offsetof(type, field) == (offset), #type "." #field)
#define SIZE(type, size) _Static_assert(sizeof(type) == (size), #type)

SIZE(struct ipt_entry, 112);
LAYOUT(struct ipt_entry, ip.src, 0);
LAYOUT(struct ipt_entry, ip.dst, 4);
LAYOUT(struct ipt_entry, ip.smsk, 8);
LAYOUT(struct ipt_entry, ip.dmsk, 12);
LAYOUT(struct ipt_entry, ip.iniface, 16);
LAYOUT(struct ipt_entry, ip.outiface, 32);
LAYOUT(struct ipt_entry, ip.iniface_mask, 48);
LAYOUT(struct ipt_entry, ip.outiface_mask, 64);
LAYOUT(struct ipt_entry, ip.proto, 80);
LAYOUT(struct ipt_entry, ip.flags, 82);
LAYOUT(struct ipt_entry, ip.invflags, 83);
LAYOUT(struct ipt_entry, target_offset, 88);
LAYOUT(struct ipt_entry, next_offset, 90);
LAYOUT(struct ipt_entry, elems, 112);

SIZE(struct ip6t_entry, 168);
LAYOUT(struct ip6t_entry, ipv6.src, 0);
LAYOUT(struct ip6t_entry, ipv6.dst, 16);
LAYOUT(struct ip6t_entry, ipv6.smsk, 32);
LAYOUT(struct ip6t_entry, ipv6.dmsk, 48);
LAYOUT(struct ip6t_entry, ipv6.iniface, 64);
LAYOUT(struct ip6t_entry, ipv6.outiface, 80);
LAYOUT(struct ip6t_entry, ipv6.iniface_mask, 96);
LAYOUT(struct ip6t_entry, ipv6.outiface_mask, 112);
LAYOUT(struct ip6t_entry, ipv6.proto, 128);
LAYOUT(struct ip6t_entry, ipv6.tos, 130);
LAYOUT(struct ip6t_entry, ipv6.flags, 131);
LAYOUT(struct ip6t_entry, ipv6.invflags, 132);
LAYOUT(struct ip6t_entry, target_offset, 140);
LAYOUT(struct ip6t_entry, next_offset, 142);
LAYOUT(struct ip6t_entry, elems, 168);

SIZE(struct xt_entry_match, 32);
LAYOUT(struct xt_entry_match, u.user.match_size, 0);
LAYOUT(struct xt_entry_match, u.user.name, 2);
LAYOUT(struct xt_entry_match, u.user.revision, 31);
SIZE(struct xt_entry_target, 32);
LAYOUT(struct xt_entry_target, u.user.target_size, 0);
LAYOUT(struct xt_entry_target, u.user.name, 2);
LAYOUT(struct xt_entry_target, u.user.revision, 31);
SIZE(struct xt_standard_target, 40);
LAYOUT(struct xt_standard_target, verdict, 32);

SIZE(struct xt_mark_mtinfo1, 12);
LAYOUT(struct xt_mark_mtinfo1, mask, 4);
LAYOUT(struct xt_mark_mtinfo1, invert, 8);
SIZE(struct xt_connmark_mtinfo1, 12);
LAYOUT(struct xt_connmark_mtinfo1, mask, 4);
LAYOUT(struct xt_connmark_mtinfo1, invert, 8);
SIZE(struct xt_tcp, 12);
LAYOUT(struct xt_tcp, dpts, 4);
LAYOUT(struct xt_tcp, option, 8);
LAYOUT(struct xt_tcp, invflags, 11);
SIZE(struct xt_udp, 10);
LAYOUT(struct xt_udp, dpts, 4);
LAYOUT(struct xt_udp, invflags, 8);
SIZE(struct xt_connmark_tginfo1, 16);
LAYOUT(struct xt_connmark_tginfo1, mode, 12);
SIZE(struct xt_connmark_tginfo2, 16);
LAYOUT(struct xt_connmark_tginfo2, ctmask, 4);
LAYOUT(struct xt_connmark_tginfo2, nfmask, 8);
LAYOUT(struct xt_connmark_tginfo2, mode, 14);
SIZE(struct nf_nat_ipv4_multi_range_compat, 20);
LAYOUT(struct nf_nat_ipv4_multi_range_compat, range[0].flags, 4);
LAYOUT(struct nf_nat_ipv4_multi_range_compat, range[0].min, 16);
LAYOUT(struct nf_nat_ipv4_multi_range_compat, range[0].max, 18);
SIZE(struct nf_nat_range, 40);
LAYOUT(struct nf_nat_range, min_proto, 36);
LAYOUT(struct nf_nat_range, max_proto, 38);
LAYOUT(struct xt_ct_target_info, zone, 2);
LAYOUT(struct xt_ct_target_info, ct, 32);
LAYOUT(struct xt_ct_target_info_v1, zone, 2);
LAYOUT(struct xt_ct_target_info_v1, ct, 64);

ambient_table *ambient_table_open(int family, const char *name) {
  return family == AF_INET6 ? ip6tc_init(name) : iptc_init(name);
}

void ambient_table_close(int family, ambient_table *table) {
  if (family == AF_INET6) {
    ip6tc_free(table);
  } else {
    iptc_free(table);
  }
}

int ambient_table_commit(int family, ambient_table *table) {
  return family == AF_INET6 ? ip6tc_commit(table) : iptc_commit(table);
}

const char *ambient_table_first_chain(int family, ambient_table *table) {
  return family == AF_INET6 ? ip6tc_first_chain(table) : iptc_first_chain(table);
}

const char *ambient_table_next_chain(int family, ambient_table *table) {
  return family == AF_INET6 ? ip6tc_next_chain(table) : iptc_next_chain(table);
}

const char *ambient_table_policy(int family, ambient_table *table, const char *chain) {
  struct xt_counters counters;
  if (family == AF_INET6) return ip6tc_builtin(chain, table) ? ip6tc_get_policy(chain, &counters, table) : NULL;
  return iptc_builtin(chain, table) ? iptc_get_policy(chain, &counters, table) : NULL;
}

// Size of an entry that libiptc handed out. The memory behind it is next_offset bytes (at least the fixed part).
static const void *sized(int family, const void *entry, size_t *size) {
  *size = 0;
  if (!entry) return NULL;
  *size = family == AF_INET6 ? ((const struct ip6t_entry *)entry)->next_offset
                             : ((const struct ipt_entry *)entry)->next_offset;
  return entry;
}

const void *ambient_table_first_rule(int family, ambient_table *table, const char *chain, size_t *size) {
  if (family == AF_INET6) return sized(family, ip6tc_first_rule(chain, table), size);
  return sized(family, iptc_first_rule(chain, table), size);
}

const void *ambient_table_next_rule(int family, ambient_table *table, const void *previous, size_t *size) {
  if (family == AF_INET6) return sized(family, ip6tc_next_rule(previous, table), size);
  return sized(family, iptc_next_rule(previous, table), size);
}

const char *ambient_table_target(int family, ambient_table *table, const void *rule) {
  return family == AF_INET6 ? ip6tc_get_target(rule, table) : iptc_get_target(rule, table);
}

// libiptc copies chain names as fixed buffers, so a shorter string must not be handed to it.
static int label(xt_chainlabel buffer, const char *chain) {
  size_t length = strlen(chain);
  if (length == 0 || length >= sizeof(xt_chainlabel)) {
    errno = EINVAL;
    return 0;
  }
  memset(buffer, 0, sizeof(xt_chainlabel));
  memcpy(buffer, chain, length);
  return 1;
}

int ambient_table_create_chain(int family, ambient_table *table, const char *chain) {
  xt_chainlabel name;
  if (!label(name, chain)) return 0;
  return family == AF_INET6 ? ip6tc_create_chain(name, table) : iptc_create_chain(name, table);
}

int ambient_table_delete_chain(int family, ambient_table *table, const char *chain) {
  xt_chainlabel name;
  if (!label(name, chain)) return 0;
  return family == AF_INET6 ? ip6tc_delete_chain(name, table) : iptc_delete_chain(name, table);
}

int ambient_table_flush_chain(int family, ambient_table *table, const char *chain) {
  xt_chainlabel name;
  if (!label(name, chain)) return 0;
  return family == AF_INET6 ? ip6tc_flush_entries(name, table) : iptc_flush_entries(name, table);
}

// libiptc copies next_offset bytes and reads the target at target_offset: both must lie in what the caller gave.
static int whole(int family, const void *entry, size_t size) {
  size_t fixed = family == AF_INET6 ? sizeof(struct ip6t_entry) : sizeof(struct ipt_entry);
  size_t next, target;
  if (size >= fixed) {
    if (family == AF_INET6) {
      next = ((const struct ip6t_entry *)entry)->next_offset;
      target = ((const struct ip6t_entry *)entry)->target_offset;
    } else {
      next = ((const struct ipt_entry *)entry)->next_offset;
      target = ((const struct ipt_entry *)entry)->target_offset;
    }
    if (next == size && target >= fixed && target + sizeof(struct xt_entry_target) <= size) return 1;
  }
  errno = EINVAL;
  return 0;
}

int ambient_table_append_rule(int family, ambient_table *table, const char *chain, const void *entry, size_t size) {
  xt_chainlabel name;
  if (!label(name, chain) || !whole(family, entry, size)) return 0;
  return family == AF_INET6 ? ip6tc_append_entry(name, entry, table) : iptc_append_entry(name, entry, table);
}

int ambient_table_insert_rule(int family, ambient_table *table, const char *chain, const void *entry, size_t size,
                              unsigned position) {
  xt_chainlabel name;
  if (!label(name, chain) || !whole(family, entry, size)) return 0;
  return family == AF_INET6 ? ip6tc_insert_entry(name, entry, position, table)
                            : iptc_insert_entry(name, entry, position, table);
}

int ambient_table_delete_rule(int family, ambient_table *table, const char *chain, unsigned position) {
  xt_chainlabel name;
  if (!label(name, chain)) return 0;
  return family == AF_INET6 ? ip6tc_delete_num_entry(name, position, table)
                            : iptc_delete_num_entry(name, position, table);
}

int ambient_extension_revision(int family, int is_target, const char *name, uint8_t revision) {
  struct xt_get_revision request;
  socklen_t length = sizeof request;
  if (strlen(name) >= sizeof request.name) return ENAMETOOLONG;
  memset(&request, 0, sizeof request);
  memcpy(request.name, name, strlen(name));
  request.revision = revision;
  int descriptor = socket(family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_RAW);
  if (descriptor < 0) return errno;
  int level = family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP;
  int option = family == AF_INET6
                   ? (is_target ? IP6T_SO_GET_REVISION_TARGET : IP6T_SO_GET_REVISION_MATCH)
                   : (is_target ? IPT_SO_GET_REVISION_TARGET : IPT_SO_GET_REVISION_MATCH);
  int outcome = getsockopt(descriptor, level, option, &request, &length) == 0 ? 0 : errno;
  close(descriptor);
  return outcome;
}
