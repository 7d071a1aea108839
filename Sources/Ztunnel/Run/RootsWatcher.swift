import GRPC
import Linux
import Logging

/// Tells, a while later, when a server is to be trusted by other roots than before. The while is drawn anew for each change:
/// a change of a ConfigMap comes to all nodes, and they must not come to the control plane together. Belongs to a loop.
final class RootsWatcher {
  private let roots: TrustRoots
  private let loop: EventLoop
  private let logger: Logger
  private let changed: () -> Void
  private var watcher: FileWatcher?
  private var content: [UInt8]?
  private var pending: LoopTimer?

  /// The longest while.
  static let spread = Duration.seconds(5)

  /// Nothing is watched where the roots are of no file.
  init(_ roots: TrustRoots, on loop: EventLoop, logger: Logger, changed: @escaping () -> Void) {
    self.roots = roots
    self.loop = loop
    self.logger = logger
    self.changed = changed
  }

  func start() {
    guard case .file(let path) = roots else { return }
    let known = FileSignature(path: path)
    content = try? SmallFile.read(path)
    watcher = FileWatcher(path, known: known, on: loop) { [unowned self] in look(at: path) }
    watcher?.start()
  }

  func stop() {
    watcher?.cancel()
    pending?.cancel()
  }

  private func look(at path: String) {
    guard let latest = try? SmallFile.read(path), latest != content else { return }
    do throws(GRPCStatus) { try roots.check() } catch {
      // Half a file, or none: what is connected stays so.
      logger.warning(
        "the new roots of the control plane are not used", metadata: ["path": "\(path)", "error": "\(error)"])
      return
    }
    content = latest
    let pause = Self.spread * Double.random(in: 0..<1)
    logger.info("the roots of the control plane have changed", metadata: ["path": "\(path)", "used_in": "\(pause)"])
    pending?.cancel()
    pending = loop.schedule(after: pause) { [unowned self] in changed() }
  }
}
