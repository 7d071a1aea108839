import CLinux
import Glibc
import Linux
import Synchronization

/// Keeps descriptors that are made in two steps (make, then mark close-on-exec) from slipping into a child that is
/// started in between: held while they are made, and while a child is.
let inheritanceLock = Mutex(())

/// Marks a descriptor close-on-exec.
func setCloseOnExec(_ raw: CInt) throws(SystemError) {
  try system("fcntl") { ambient_fcntl_int(raw, F_SETFD, FD_CLOEXEC) }
}
