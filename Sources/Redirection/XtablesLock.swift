import Glibc
import Linux

/// The lock that keeps writers of a table apart: without it the kernel loses the slower one's changes without a word
/// (redirection.md §9.3 items 6, 7). Released when the value ends.
struct XtablesLock: ~Copyable {
  private let descriptor: Descriptor

  /// Takes the lock, which is a `flock` of `path`, made when missing (with the last directory of its path).
  ///
  /// Blocks the calling thread for at most `timeout`. Polls, because a blocking `flock` knows no deadline. Throws
  /// ``RedirectionError``.
  init(path: String, timeout: Duration) throws(RedirectionError) {
    try self.init(try Self.open(path), path, timeout)
  }

  /// Takes the lock of one namespace alone, so that no pod waits for another: a `flock` of the namespace's own file, which
  /// whoever opens the namespace has in common. Otherwise as ``init(path:timeout:)``.
  init(of namespace: NetworkNamespace, timeout: Duration) throws(RedirectionError) {
    let path = "\(namespace.identity)"
    let descriptor: Descriptor
    do {
      // Opened anew: a lock is one for all who share an open file.
      descriptor = try Descriptor.open("/proc/self/fd/\(namespace.descriptor.raw)", O_RDONLY | O_NONBLOCK)
    } catch { throw .lockUnusable(path: path, error) }
    try self.init(descriptor, path, timeout)
  }

  private init(_ descriptor: consuming Descriptor, _ path: String, _ timeout: Duration) throws(RedirectionError) {
    let raw = descriptor.raw
    let deadline = ContinuousClock.now + timeout
    var pause: useconds_t = 500
    while true {
      do {
        try system("flock", path) { flock(raw, LOCK_EX | LOCK_NB) }
        break
      } catch {
        guard error.number == EWOULDBLOCK else { throw .lockUnusable(path: path, error) }
      }
      guard ContinuousClock.now < deadline else { throw .lockTimedOut(path: path) }
      usleep(pause)
      pause = min(pause * 2, 20_000)
    }
    self.descriptor = descriptor
  }

  private static func open(_ path: String) throws(RedirectionError) -> Descriptor {
    let flags = O_CREAT | O_RDWR | O_NOFOLLOW
    do {
      return try Descriptor.open(path, flags, mode: 0o600)
    } catch  where error.number == ENOENT {
      guard let slash = path.lastIndex(of: "/"), slash != path.startIndex else {
        throw .lockUnusable(path: path, error)
      }
      let directory = String(path[..<slash])
      do {
        do { try system("mkdir", directory) { mkdir(directory, 0o755) } } catch  where error.number == EEXIST {}
        return try Descriptor.open(path, flags, mode: 0o600)
      } catch {
        throw .lockUnusable(path: path, error)
      }
    } catch {
      throw .lockUnusable(path: path, error)
    }
  }
}
