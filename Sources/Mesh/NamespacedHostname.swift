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
