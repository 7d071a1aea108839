#ifndef AMBIENT_REVISION_H
#define AMBIENT_REVISION_H

/* What the program was built from, as whoever built it says; "unknown" where nobody did. In C, so that another revision
   compiles this file alone. */
const char *ambient_revision(void);

#endif
