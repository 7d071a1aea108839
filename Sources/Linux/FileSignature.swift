import CLinux
import Glibc

/// What tells one version of a file from another without reading it. Links are followed.
public struct FileSignature: Hashable, Sendable {
  private let device: UInt64
  private let inode: UInt64
  private let size: Int64
  /// Nanoseconds since the epoch; the change time also tells of restored modification times and of permissions.
  private let modified: Int64
  private let changed: Int64

  /// The file at `path` now; nil when there is none, or none that may be looked at.
  public init?(path: String) {
    var status = stat()
    guard stat(path, &status) == 0 else { return nil }
    self.init(status)
  }

  public init(_ status: stat) {
    device = UInt64(status.st_dev)
    inode = UInt64(status.st_ino)
    size = Int64(status.st_size)
    modified = Self.nanoseconds(status.st_mtim)
    changed = Self.nanoseconds(status.st_ctim)
  }

  private static func nanoseconds(_ time: timespec) -> Int64 {
    // Wrapping: only equality matters, and a file system may claim any time.
    Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
  }
}
