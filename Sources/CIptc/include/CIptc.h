// libiptc for IPv4 and IPv6 behind one set of functions that take the family.
//
// The kernel's own headers stay out of this file: <linux/if.h> and <net/if.h> declare the same structures, and the
// Linux module imports the latter. Entries cross this border as bytes; their layout is asserted in shims.c.
//
// libiptc keeps library-global state (redirection.md §9.3 item 5): callers make one chain at a time. All else is a handle's
// own, but for the name of the last call, which is never asked for here.
#ifndef AMBIENT_CIPTC_H
#define AMBIENT_CIPTC_H

#include <stddef.h>
#include <stdint.h>

// Size of the kernel's chain name buffer, with the NUL.
#define AMBIENT_CHAIN_CAPACITY 32

// An open copy of one table. It stays tied to the network namespace it was opened in.
typedef struct xtc_handle ambient_table;

// `family` is AF_INET or AF_INET6 everywhere. Functions returning int give 1 for success, 0 with errno.

// Reads a table from the kernel. NULL with errno on failure.
ambient_table *_Nullable ambient_table_open(int family, const char *_Nonnull name);
void ambient_table_close(int family, ambient_table *_Nonnull table);
// Replaces the kernel's table by this copy, if it was changed.
int ambient_table_commit(int family, ambient_table *_Nonnull table);

// Walk the chains: built-in ones in hook order, then the others by name. NULL at the end. The name stays valid until
// the table is changed or closed.
const char *_Nullable ambient_table_first_chain(int family, ambient_table *_Nonnull table);
const char *_Nullable ambient_table_next_chain(int family, ambient_table *_Nonnull table);
// The policy (ACCEPT, DROP) of a built-in chain, NULL for other chains.
const char *_Nullable ambient_table_policy(int family, ambient_table *_Nonnull table, const char *_Nonnull chain);

// Walk the rules of a chain. `*size` gets the number of bytes of the entry.
const void *_Nullable ambient_table_first_rule(int family, ambient_table *_Nonnull table, const char *_Nonnull chain,
                                               size_t *_Nonnull size);
const void *_Nullable ambient_table_next_rule(int family, ambient_table *_Nonnull table, const void *_Nonnull previous,
                                              size_t *_Nonnull size);
// Name of the target of a rule of this table: a verdict, a chain, an extension, or empty.
const char *_Nullable ambient_table_target(int family, ambient_table *_Nonnull table, const void *_Nonnull rule);

// Changes to the copy. Positions count from 0. `size` must be the entry's own next_offset, else EINVAL.
int ambient_table_create_chain(int family, ambient_table *_Nonnull table, const char *_Nonnull chain);
int ambient_table_delete_chain(int family, ambient_table *_Nonnull table, const char *_Nonnull chain);
int ambient_table_flush_chain(int family, ambient_table *_Nonnull table, const char *_Nonnull chain);
int ambient_table_append_rule(int family, ambient_table *_Nonnull table, const char *_Nonnull chain,
                              const void *_Nonnull entry, size_t size);
int ambient_table_insert_rule(int family, ambient_table *_Nonnull table, const char *_Nonnull chain,
                              const void *_Nonnull entry, size_t size, unsigned position);
int ambient_table_delete_rule(int family, ambient_table *_Nonnull table, const char *_Nonnull chain, unsigned position);

// Asks the kernel, in the calling thread's network namespace, whether it has an extension in a revision (its module is
// loaded on demand). 0 when it has, else errno: EPROTONOSUPPORT for a missing revision, ENOENT for a missing extension.
int ambient_extension_revision(int family, int is_target, const char *_Nonnull name, uint8_t revision);

#endif
