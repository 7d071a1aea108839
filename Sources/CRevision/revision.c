#include "revision.h"

#ifndef AMBIENT_REVISION
#define AMBIENT_REVISION "unknown"
#endif

const char *ambient_revision(void) { return AMBIENT_REVISION; }
