/// How far one workload is on its way into the mesh (enrollment.md §5).
public enum EnrolmentState: Equatable, Sendable, CustomStringConvertible {
  /// Its namespace is not there (yet).
  case waitingForNamespace
  /// The namespace is there; redirection is being written, proven and announced.
  case redirecting
  /// Redirection is proven; no ztunnel is there to serve it, so its traffic is cut.
  case waitingForZtunnel
  /// Redirection is proven and ztunnel serves it.
  case announced
  /// Known, and on purpose outside the mesh.
  case outside
  case leaving
  case failed(EnrolmentError, retryIn: Duration)

  public var description: String {
    switch self {
    case .waitingForNamespace: "waiting for namespace"
    case .redirecting: "redirecting"
    case .waitingForZtunnel: "waiting for ztunnel"
    case .announced: "announced"
    case .outside: "outside the mesh"
    case .leaving: "leaving"
    case .failed(let error, let delay): "failed, next try in \(delay): \(error)"
    }
  }
}
