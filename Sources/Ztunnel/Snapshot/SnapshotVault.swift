import Glibc
import Linux
import TLS

/// The directory and the secret of snapshots, and the thread that writes them: a disk can take as long as it likes. Safe to
/// share between threads.
struct SnapshotVault: Sendable {
  let directory: String
  let secret: [UInt8]
  /// One, so that what is submitted is done in order.
  let thread = BlockingThreads(limit: 1)

  /// Reads the secret. Throws ``SnapshotError``.
  init(_ configuration: SnapshotConfiguration) throws(SnapshotError) {
    directory = configuration.directory
    let path = configuration.keyPath
    do throws(SystemError) { secret = try WholeFile.read(path, limit: 4096) } catch {
      throw .keyUnreadable(path: path, reason: error.reason)
    }
    guard secret.count >= Sealer.shortestSecret else {
      throw .keyTooShort(path: path, bytes: secret.count, least: Sealer.shortestSecret)
    }
    do throws(SystemError) { try Self.make(directory) } catch {
      throw .directoryUnusable(path: directory, reason: error.reason)
    }
  }

  private static func make(_ directory: String) throws(SystemError) {
    guard mkdir(directory, 0o700) != 0, errno != EEXIST else { return }
    throw SystemError("mkdir", errno, subject: directory)
  }

  func path(_ kind: SealedFile.Kind) -> String {
    switch kind {
    case .mesh: "\(directory)/mesh.sealed"
    case .certificates: "\(directory)/certificates.sealed"
    }
  }

  /// The file, to be read again from its beginning; nil where there is none. Throws ``SnapshotError``.
  func open(_ kind: SealedFile.Kind) throws(SnapshotError) -> SharedDescriptor? {
    let path = path(kind)
    guard FileSignature(path: path) != nil else { return nil }
    do throws(SystemError) {
      // Not blocking, so that a named pipe in the file's place cannot hold the caller.
      return SharedDescriptor(try Descriptor.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY))
    } catch { throw .unreadable(path: path, reason: error.reason) }
  }

  /// Begins to read a file that ``open(_:)`` has opened. Throws ``SnapshotError``.
  func reader(of file: SharedDescriptor, _ kind: SealedFile.Kind) throws(SnapshotError) -> SealedReader {
    try SealedReader(file, kind, secret: secret, path: path(kind))
  }
}
