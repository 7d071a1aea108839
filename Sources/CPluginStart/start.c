#include "CPluginStart.h"
#include <stdlib.h>

// Before the Swift runtime starts, which otherwise looks for its crash reporter beside the program, and ends the program
// where it cannot find out where that is: in a chroot without /proc.
__attribute__((constructor(101))) static void without_crash_reporter(void) {
  setenv("SWIFT_BACKTRACE", "enable=off,swift-backtrace=/nonexistent", 1);
}
