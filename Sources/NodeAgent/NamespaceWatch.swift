import Glibc
import Linux
import Redirection

/// Tells when somebody changes routes, policy rules or nftables in a namespace. Legacy tables have no such notice: they
/// are looked at on a timer. Belongs to its event loop.
final class NamespaceWatch {
  private let sockets: [SharedDescriptor]
  private var watches: [Watch] = []

  /// `changed` is called on the loop for each burst of notices. Blocks for a moment. Throws ``SystemError`` or
  /// `NetworkNamespaceError`.
  init(_ namespace: NetworkNamespace, on loop: EventLoop, changed: @escaping () -> Void) throws {
    sockets = try namespace.enter { () throws -> [SharedDescriptor] in try ChangeNotice.sockets() }
    for socket in sockets {
      watches.append(
        try loop.watch(socket.raw, for: .readable) { _ in
          ChangeNotice.drain(socket)
          changed()
        })
    }
  }

  func cancel() {
    for watch in watches { watch.cancel() }
    watches = []
  }

  deinit { cancel() }
}
