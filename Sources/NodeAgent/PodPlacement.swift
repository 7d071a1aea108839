import Linux
import Vocabulary

/// Where a pod's network namespace is found: at the path the container runtime told, as long as it is there, else by
/// the pod's processes.
public struct PodPlacement: Hashable, Sendable, CustomStringConvertible {
  public let uid: String
  /// What proves that a namespace is this pod's. Empty until its sandbox is up.
  public let addresses: [IPAddress]
  /// A path in this process's own mount namespace; nil where no plugin told one.
  public let sandbox: String?
  /// Which namespace must be at that path; nil: whichever is. For a path that was told to an earlier run of the agent.
  public let expected: NamespaceIdentity?

  public init(uid: String, addresses: [IPAddress], sandbox: String? = nil, expected: NamespaceIdentity? = nil) {
    self.uid = uid
    self.addresses = addresses
    self.sandbox = sandbox
    self.expected = expected
  }

  public var description: String { sandbox ?? "processes of pod \(uid)" }
}
