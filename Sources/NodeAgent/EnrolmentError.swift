import Linux
import Vocabulary
import ZDS

/// Why a workload is not, or not completely, in the mesh.
public enum EnrolmentError: CodedError, Equatable {
  /// The words of an error from a module whose errors are of many types.
  public struct Cause: Equatable, Sendable {
    public let code: String
    public let summary: String
    public let remedy: String?

    init(_ error: any Error) {
      let coded = error as? any CodedError
      code = coded?.code ?? "UNKNOWN"
      summary = coded?.summary ?? String(describing: error)
      remedy = coded?.remedy
    }
  }

  case namespace(NetworkNamespaceError)
  /// The node's own namespace must never be captured.
  case hostNamespace(path: String)
  case namespaceClaimed(NamespaceIdentity, by: WorkloadUID)
  /// The pod's sandbox is not up yet: nothing could prove which namespace is its own.
  case podWithoutAddress(uid: String)
  /// No process of the pod is in a namespace that has one of its addresses.
  case podNotFound(uid: String, addresses: [IPAddress])
  case redirection(Cause)
  case announcement(ZDSError)
  /// ztunnel said that it serves the workload, and does not listen on these ports of it.
  case notListening([UInt16])
  case removal(Cause)
  /// The node's probes could not be let through, or not be stopped.
  case probes(Cause)

  public var code: String {
    switch self {
    case .namespace(let error): error.code
    case .hostNamespace: "ENROL_HOST_NAMESPACE"
    case .namespaceClaimed: "ENROL_NAMESPACE_CLAIMED"
    case .podWithoutAddress: "ENROL_POD_WITHOUT_ADDRESS"
    case .podNotFound: "ENROL_POD_NOT_FOUND"
    case .redirection(let cause): cause.code
    case .announcement(let error): error.code
    case .notListening: "ENROL_NOT_LISTENING"
    case .removal(let cause), .probes(let cause): cause.code
    }
  }

  public var summary: String {
    switch self {
    case .namespace(let error): error.summary
    case .hostNamespace(let path): "\(path) is the node's own network namespace"
    case .namespaceClaimed(let identity, let owner): "\(identity) belongs to \(owner) already"
    case .podWithoutAddress(let uid): "pod \(uid) has no address yet"
    case .podNotFound(let uid, let addresses):
      "no process of pod \(uid) is in a network namespace with "
        + addresses.map(\.description).joined(separator: " or ")
    case .redirection(let cause): "redirection could not be written: \(cause.summary)"
    case .announcement(let error): error.summary
    case .notListening(let ports):
      "nobody listens in its namespace on " + ports.map(String.init).joined(separator: ", ")
    case .removal(let cause): "redirection could not be removed: \(cause.summary)"
    case .probes(let cause): "the node's probes could not be arranged: \(cause.summary)"
    }
  }

  public var remedy: String? {
    switch self {
    case .namespace(let error): error.remedy
    case .hostNamespace: "give the namespace of the workload, not of the node"
    case .namespaceClaimed: "two workloads cannot share a namespace; take one of them out"
    case .podWithoutAddress: nil
    case .podNotFound: "check that the node's /proc is mounted and that the agent has CAP_SYS_PTRACE and CAP_SYS_ADMIN"
    case .redirection(let cause), .removal(let cause), .probes(let cause): cause.remedy
    case .announcement(let error): error.remedy
    case .notListening: "ztunnel opens these ports when it takes the workload: check that it runs, and its log"
    }
  }
}

extension EnrolmentError {
  var isMissingNamespace: Bool {
    switch self {
    case .namespace(.notFound), .podWithoutAddress, .podNotFound: true
    default: false
    }
  }

  var isMissingZtunnel: Bool { self == .announcement(.notConnected) }

  /// Its rules are in, and ztunnel does not serve it, or not wholly.
  var isUnserved: Bool {
    switch self {
    case .announcement, .notListening: true
    default: false
    }
  }
}
