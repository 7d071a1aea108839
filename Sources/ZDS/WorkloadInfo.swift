/// Who a workload is: enough to look up its record and to ask for its certificate (zds.md §2).
public struct WorkloadInfo: Hashable, Sendable, CustomStringConvertible {
  /// The pod's name.
  public let name: String
  public let namespace: String
  public let serviceAccount: String

  public init(name: String, namespace: String, serviceAccount: String) {
    self.name = name
    self.namespace = namespace
    self.serviceAccount = serviceAccount
  }

  /// `<namespace>/<name>`.
  public var description: String { "\(namespace)/\(name)" }
}
