import Vocabulary

/// Where a workload's network namespace is found.
public enum NamespaceLocation: Hashable, Sendable, CustomStringConvertible {
  /// A file such as `/run/netns/web`.
  case path(String)
  /// The namespace a process runs in.
  case process(Int32)
  /// That of a pod, which is proven by the pod's addresses.
  case pod(PodPlacement)
  /// The namespace of a systemd service, such as one with `PrivateNetwork=yes`.
  case unit(SystemdUnit)

  public var description: String {
    switch self {
    case .path(let path): path
    case .process(let process): Self.path(ofProcess: process)
    case .pod(let placement): placement.description
    case .unit(let unit): "the service \(unit)"
    }
  }

  /// Whether another namespace may be there at any time without anybody telling.
  var mayBeReplaced: Bool {
    switch self {
    case .path, .process, .unit: true
    case .pod: false
    }
  }

  static func path(ofProcess process: Int32) -> String { "/proc/\(process)/ns/net" }

  /// The addresses its workload is known by; nil: whatever is found inside.
  var addresses: [IPAddress]? {
    switch self {
    case .path, .process, .unit: nil
    case .pod(let placement): placement.addresses
    }
  }
}
