import Mesh
import Vocabulary

/// A connection of a pod that can be ended from outside: by a policy, or because the pod or this process goes.
///
/// It is registered before its policy is asked, so that a change of policies cannot slip in between.
final class TrackedConnection {
  /// The client's socket is its own: not a stream of a tunnel, and no DNS query.
  let holdsSocket: Bool
  /// What policy looks at; nil for outbound connections, which no policy of this side concerns.
  let attributes: ConnectionAttributes?
  /// Set when it is to end, also before there is anything to end.
  private(set) var aborted: ProxyError?
  /// Ends it; nil while there is nothing to end yet.
  var abortAction: ((ProxyError) -> Void)?

  /// Takes it out of this process's hands, where another can go on with it: given what is left, the closure says whether it
  /// could be left to somebody. Nil where it cannot.
  var moveAction: (((MovedConnection) -> Bool) -> Void)?

  init(_ attributes: ConnectionAttributes? = nil, holdsSocket: Bool = false) {
    self.holdsSocket = holdsSocket
    self.attributes = attributes
  }

  /// Ends the connection with `reason`. The first reason stays.
  func abort(_ reason: ProxyError) {
    guard aborted == nil else { return }
    aborted = reason
    abortAction?(reason)
  }

  /// Throws the reason to end, if there is one.
  func check() throws(ProxyError) {
    if let aborted { throw aborted }
  }
}
