import Glibc
import Linux
import Logging
import TLS

/// Keeps a revocation list as its file is (hbone.md §2.5). Belongs to the control loop.
///
/// A file that is not there revokes nobody until it comes. One that cannot be read or understood leaves the last good one
/// in force; at the start there is none, so that the process does not start: who asked for revocation would not get it.
final class RevocationSource {
  private let path: String
  private let state: RevocationState
  private let logger: Logger
  private unowned let loop: EventLoop
  private let changed: () -> Void
  private var watcher: FileWatcher?
  private var known: FileSignature?

  /// Reads the file. `changed` is called on the loop after every later version. Throws ``TLSError`` for a file that is
  /// there and is no list.
  init(
    _ path: String, into state: RevocationState, on loop: EventLoop, logger: Logger, changed: @escaping () -> Void
  ) throws(TLSError) {
    self.path = path
    self.state = state
    self.loop = loop
    self.logger = logger
    self.changed = changed
    known = FileSignature(path: path)
    if known == nil {
      logger.warning("the revocation list is not there; nobody is revoked until it is", metadata: ["path": "\(path)"])
    } else {
      try load()
    }
  }

  /// Starts to watch the file.
  func start() {
    watcher = FileWatcher(path, known: known, on: loop) { [unowned self] in reload() }
    watcher?.start()
  }

  func stop() { watcher?.cancel() }

  private func reload() {
    do throws(TLSError) { try load() } catch {
      logger.error(
        "the revocation list was not taken; the last good one stays in force",
        metadata: ["path": "\(path)", "error": "\(error)"])
      return
    }
    changed()
  }

  private func load() throws(TLSError) {
    let bytes: [UInt8]
    do throws(SystemError) { bytes = try WholeFile.read(path, limit: RevocationList.maximumSize) } catch {
      throw .revocationListMalformed(path, reason: "it cannot be read: \(error.reason)")
    }
    let list = try RevocationList(bytes, subject: path)
    state.replace(with: list)
    logger.info("revocation list in force", metadata: ["path": "\(path)", "lists": "\(list.count)"])
  }
}
