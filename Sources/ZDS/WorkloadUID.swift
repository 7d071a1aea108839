/// What both sides call one workload: on Kubernetes the pod's UID (zds.md §2).
///
/// Never empty, because an empty field is indistinguishable from an absent one on the wire.
public struct WorkloadUID: Hashable, Comparable, Sendable, CustomStringConvertible {
  public let text: String

  /// Nil when `text` is empty.
  public init?(_ text: String) {
    guard !text.isEmpty else { return nil }
    self.text = text
  }

  public var description: String { text }

  public static func < (left: WorkloadUID, right: WorkloadUID) -> Bool { left.text < right.text }
}
