import Vocabulary

/// A connection that somebody wants to understand before, or instead of, making it.
public struct ConnectionQuestion: Hashable, Sendable {
  public enum Target: Hashable, Sendable, CustomStringConvertible {
    case address(SocketAddress)
    /// A service's host name, whole or short, or `namespace/pod`.
    case name(String, port: UInt16)

    public var description: String {
      switch self {
      case .address(let address): "\(address)"
      case .name(let name, let port): "\(name):\(port)"
      }
    }
  }

  /// The pod that connects.
  public var namespace: String
  public var pod: String
  public var target: Target

  public init(namespace: String, pod: String, target: Target) {
    self.namespace = namespace
    self.pod = pod
    self.target = target
  }

  /// Longest text of one side, in bytes.
  static let longest = 512

  /// Parses `namespace/pod`, and `host:port`, `[address]:port` or `namespace/pod:port`. Nil for anything else.
  public init?(from: String, to: String) {
    let ends = from.split(separator: "/", omittingEmptySubsequences: false)
    guard from.utf8.count <= Self.longest, to.utf8.count <= Self.longest, ends.count == 2, !ends[0].isEmpty,
      !ends[1].isEmpty, Self.isPrintable(from), Self.isPrintable(to), let colon = to.lastIndex(of: ":"),
      let port = UInt16(to[to.index(after: colon)...]), port != 0
    else { return nil }
    let target: Target
    if let address = SocketAddress(to) {
      target = .address(address.canonical)
    } else {
      let name = to[..<colon]
      guard !name.isEmpty, !name.contains(":") else { return nil }
      target = .name(String(name), port: port)
    }
    self.init(namespace: String(ends[0]), pod: String(ends[1]), target: target)
  }

  private static func isPrintable(_ text: String) -> Bool { text.utf8.allSatisfy { (0x21...0x7e).contains($0) } }
}

extension ConnectionQuestion: CustomStringConvertible {
  public var description: String { "\(namespace)/\(pod) → \(target)" }
}

/// What is known about the capture of pods, apart from the mesh: the pods that a ztunnel serves.
public struct ServedPods: Hashable, Sendable {
  public struct Name: Hashable, Sendable {
    public var namespace: String
    public var name: String

    public init(namespace: String, name: String) {
      self.namespace = namespace
      self.name = name
    }
  }

  /// True where the pod is served, false where it is announced and cannot be served yet.
  public var pods: [Name: Bool]
  /// The node they are on; nil where it is not known, and then every pod that is in no list is taken for another
  /// node's.
  public var node: String?

  public init(pods: [Name: Bool] = [:], node: String? = nil) {
    self.pods = pods
    self.node = node
  }

  enum State { case served, pending, absent, otherNode }

  func state(of workload: Workload) -> State {
    if let isUp = pods[Name(namespace: workload.namespace, name: workload.name)] { return isUp ? .served : .pending }
    guard let node, workload.node == node else { return .otherNode }
    return .absent
  }
}
