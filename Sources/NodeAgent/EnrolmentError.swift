import Linux
import Vocabulary
import ZDS

/// Why a workload is not, or not completely, in the mesh.
public enum EnrolmentError: CodedError, Equatable {
  case namespace(NetworkNamespaceError)
  /// The node's own namespace must never be captured.
  case hostNamespace(path: String)
  case namespaceClaimed(NamespaceIdentity, by: WorkloadUID)
  case redirection(String)
  case announcement(ZDSError)
  case removal(String)

  public var code: String {
    switch self {
    case .namespace(let error): error.code
    case .hostNamespace: "ENROL_HOST_NAMESPACE"
    case .namespaceClaimed: "ENROL_NAMESPACE_CLAIMED"
    case .redirection: "ENROL_REDIRECTION_FAILED"
    case .announcement(let error): error.code
    case .removal: "ENROL_REMOVAL_FAILED"
    }
  }

  public var summary: String {
    switch self {
    case .namespace(let error): error.summary
    case .hostNamespace(let path): "\(path) is the node's own network namespace"
    case .namespaceClaimed(let identity, let owner): "\(identity) belongs to \(owner) already"
    case .redirection(let reason): "redirection could not be written: \(reason)"
    case .announcement(let error): error.summary
    case .removal(let reason): "redirection could not be removed: \(reason)"
    }
  }

  public var remedy: String? {
    switch self {
    case .namespace(let error): error.remedy
    case .hostNamespace: "give the namespace of the workload, not of the node"
    case .namespaceClaimed: "two workloads cannot share a namespace; take one of them out"
    case .redirection, .removal: "see the reason; the workload's traffic is not let through in the meantime"
    case .announcement(let error): error.remedy
    }
  }
}

extension EnrolmentError {
  /// The text of an error from outside, with its code where it has one.
  static func text(_ error: any Error) -> String {
    (error as? any CodedError)?.description ?? String(describing: error)
  }
}
