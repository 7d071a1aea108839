import CLinux
import Glibc

/// A file descriptor with one owner. It is closed when the value ends.
public struct Descriptor: ~Copyable, Sendable {
  /// The number, valid while this value lives.
  public let raw: CInt

  /// Takes ownership of an open descriptor.
  public init(owning raw: CInt) {
    precondition(raw >= 0, "a descriptor is never negative")
    self.raw = raw
  }

  deinit { close(raw) }

  /// Gives up ownership: the caller closes it.
  public consuming func release() -> CInt {
    let raw = self.raw
    discard self
    return raw
  }

  /// Opens a path, always close-on-exec. Throws ``SystemError``.
  public static func open(_ path: String, _ flags: CInt, mode: mode_t = 0o600) throws(SystemError) -> Descriptor {
    Descriptor(owning: try system("open", path) { ambient_open(path, flags | O_CLOEXEC, mode) })
  }
}

/// A file descriptor with several owners: closed when the last reference goes. Safe to share between threads.
public final class SharedDescriptor: Sendable {
  /// The number, valid while a reference is held.
  public let raw: CInt

  public init(_ descriptor: consuming Descriptor) {
    raw = descriptor.release()
  }

  deinit { close(raw) }
}
