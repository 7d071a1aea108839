import JSON
import Vocabulary

/// A pod, as far as enrolment and repair look at it.
public struct Pod: KubernetesObject {
  public static let kind = "pod"
  public static let collection = "/api/v1/pods"

  /// An init container's story.
  public struct InitContainer: Equatable, Sendable {
    public var name: String
    /// How it ended, where it does not run.
    public var ended: Termination?
    /// How it ended the time before.
    public var endedBefore: Termination?

    public init(name: String, ended: Termination? = nil, endedBefore: Termination? = nil) {
      self.name = name
      self.ended = ended
      self.endedBefore = endedBefore
    }
  }

  /// A container's end.
  public struct Termination: Equatable, Sendable {
    public var exitCode: Int
    public var message: String

    public init(exitCode: Int, message: String = "") {
      self.exitCode = exitCode
      self.message = message
    }
  }

  public var meta: ObjectMeta
  public var nodeName: String
  public var serviceAccountName: String
  public var isOnHostNetwork: Bool
  /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`; empty before there is one.
  public var phase: String
  /// IPv4-mapped ones unwrapped; empty until the sandbox is up.
  public var addresses: [IPAddress]
  public var initContainers: [InitContainer]

  public init(
    meta: ObjectMeta, nodeName: String = "", serviceAccountName: String = "default", isOnHostNetwork: Bool = false,
    phase: String = "", addresses: [IPAddress] = [], initContainers: [InitContainer] = []
  ) {
    self.meta = meta
    self.nodeName = nodeName
    self.serviceAccountName = serviceAccountName
    self.isOnHostNetwork = isOnHostNetwork
    self.phase = phase
    self.addresses = addresses
    self.initContainers = initContainers
  }

  public init(_ reader: ObjectReader) throws(KubernetesError) {
    let reader = Self.named(reader)
    meta = try Self.meta(reader)
    guard !meta.uid.isEmpty, !meta.namespace.isEmpty else {
      throw reader.malformed("metadata", "an object with a uid and a namespace")
    }
    let spec = try reader.child("spec")
    nodeName = try spec?.text("nodeName") ?? ""
    let account = try spec?.text("serviceAccountName") ?? ""
    serviceAccountName = account.isEmpty ? "default" : account
    isOnHostNetwork = try spec?.boolean("hostNetwork") ?? false
    let status = try reader.child("status")
    phase = try status?.text("phase") ?? ""
    addresses = try Self.addresses(status)
    initContainers = try Self.initContainers(status)
  }

  /// All its containers have ended for good.
  public var isTerminal: Bool { phase == "Succeeded" || phase == "Failed" }

  /// Where the pod of this name is.
  public static func path(_ pod: ObjectReference) -> String {
    "/api/v1/namespaces/\(APIRequest.escaped(pod.namespace))/pods/\(APIRequest.escaped(pod.name))"
  }

  /// `podIPs`, else `podIP` (enrollment.md §4).
  private static func addresses(_ status: ObjectReader?) throws(KubernetesError) -> [IPAddress] {
    guard let status else { return [] }
    var texts: [String] = []
    for entry in try status.children("podIPs") {
      if let text = try entry.text("ip"), !text.isEmpty { texts.append(text) }
    }
    if texts.isEmpty, let text = try status.text("podIP"), !text.isEmpty { texts.append(text) }
    var addresses: [IPAddress] = []
    for text in texts {
      guard let address = IPAddress(text)?.canonical else { throw status.malformed("podIPs", "IP addresses") }
      addresses.append(address)
    }
    return addresses
  }

  private static func initContainers(_ status: ObjectReader?) throws(KubernetesError) -> [InitContainer] {
    var containers: [InitContainer] = []
    for entry in try status?.children("initContainerStatuses") ?? [] {
      containers.append(
        InitContainer(
          name: try entry.text("name") ?? "",
          ended: try termination(try entry.child("state")), endedBefore: try termination(try entry.child("lastState"))))
    }
    return containers
  }

  private static func termination(_ state: ObjectReader?) throws(KubernetesError) -> Termination? {
    guard let ended = try state?.child("terminated") else { return nil }
    return Termination(exitCode: try ended.integer("exitCode") ?? 0, message: try ended.text("message") ?? "")
  }
}
