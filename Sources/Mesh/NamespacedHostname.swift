/// The primary key of a service, and one of the two ways to name a gateway: `namespace/hostname`.
public struct NamespacedHostname: Hashable, Sendable, Comparable, CustomStringConvertible {
  public var namespace: String
  public var hostname: String

  public init(namespace: String, hostname: String) {
    self.namespace = namespace
    self.hostname = hostname
  }

  /// Parses `namespace/hostname`; nil unless there is exactly one slash with text on both sides of it.
  public init?(_ text: some StringProtocol) {
    let parts = text.split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 2, !parts[0].isEmpty, !parts[1].isEmpty else { return nil }
    self.init(namespace: String(parts[0]), hostname: String(parts[1]))
  }

  public static func < (left: Self, right: Self) -> Bool {
    (left.namespace, left.hostname) < (right.namespace, right.hostname)
  }

  /// `namespace/hostname`.
  public var description: String { "\(namespace)/\(hostname)" }
}

extension String {
  /// A host name as it is looked up: case does not matter in DNS (RFC 4343), though it does in the names of resources.
  /// Most are in lower case as they come, and are not copied.
  var foldedHostname: String {
    utf8.contains { (0x41...0x5a).contains($0) } ? lowercased() : self
  }
}
