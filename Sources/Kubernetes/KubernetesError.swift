import Vocabulary

/// What goes wrong between this program and a Kubernetes API server.
public enum KubernetesError: CodedError, Equatable {
  /// A kubeconfig or the environment of a pod does not say how to reach the server.
  case configuration(subject: String, reason: String)
  /// A certificate, key or token that access needs cannot be used.
  case credentials(subject: String, reason: String)
  /// No connection, or one that broke.
  case unreachable(server: String, reason: String)
  /// No answer in time.
  case timedOut(request: String)
  /// The server refused.
  case refused(request: String, status: Int, reason: String, message: String)
  /// An answer is larger than is read.
  case tooLarge(subject: String, limit: Int)
  /// An answer is no JSON.
  case notJSON(subject: String, reason: String)
  /// An object is not as the API says: `path` within it should be `expected`.
  case malformed(subject: String, path: String, expected: String)

  public var code: String {
    switch self {
    case .configuration: "KUBERNETES_CONFIGURATION"
    case .credentials: "KUBERNETES_CREDENTIALS"
    case .unreachable: "KUBERNETES_UNREACHABLE"
    case .timedOut: "KUBERNETES_TIMEOUT"
    case .refused: "KUBERNETES_REFUSED"
    case .tooLarge: "KUBERNETES_TOO_LARGE"
    case .notJSON: "KUBERNETES_NOT_JSON"
    case .malformed: "KUBERNETES_MALFORMED_OBJECT"
    }
  }

  public var summary: String {
    switch self {
    case .configuration(let subject, let reason), .credentials(let subject, let reason): "\(subject): \(reason)"
    case .unreachable(let server, let reason): "the API server \(server) is not reached: \(reason)"
    case .timedOut(let request): "\(request) was not answered in time"
    case .refused(let request, let status, let reason, let message):
      "\(request) was answered with \(status)\(reason.isEmpty ? "" : " \(reason)"): \(message)"
    case .tooLarge(let subject, let limit): "\(subject) is larger than \(limit) bytes"
    case .notJSON(let subject, let reason): "\(subject) is no JSON: \(reason)"
    case .malformed(let subject, let path, let expected): "\(subject): `\(path)` must be \(expected)"
    }
  }

  public var remedy: String? {
    switch self {
    case .configuration: "check the kubeconfig, or KUBERNETES_SERVICE_HOST and the mounted service account"
    case .credentials: "check the mounted service account or the files that the kubeconfig names"
    case .unreachable, .timedOut: "check the API server and the way to it; it is tried again"
    case .refused(_, 401, _, _): "check the token: it may have expired or belong to another cluster"
    case .refused(_, 403, _, _): "check the ClusterRole that is bound to this service account"
    case .refused, .tooLarge, .notJSON: nil
    case .malformed: "correct the object; what it said before stays in force"
    }
  }

  /// What was asked for is not there (any more).
  public var isNotFound: Bool { status == 404 }
  /// A precondition did not hold: another object has the name, or it has changed.
  public var isConflict: Bool { status == 409 }
  /// The version that was asked for is too old to go on from.
  public var isGone: Bool { status == 410 }

  /// There was no answer of a server that could decide.
  public var isNoAnswer: Bool {
    switch self {
    case .unreachable, .timedOut: true
    case .refused(_, let status, _, _): status >= 500
    case .configuration, .credentials, .tooLarge, .notJSON, .malformed: false
    }
  }

  /// The HTTP status of a refusal.
  public var status: Int? {
    if case .refused(_, let status, _, _) = self { status } else { nil }
  }
}
