// libiptc for IPv4 and IPv6, and the kernel's match and target structures.
#ifndef AMBIENT_CIPTC_H
#define AMBIENT_CIPTC_H
#include <libiptc/libip6tc.h>
#include <libiptc/libiptc.h>
#endif
