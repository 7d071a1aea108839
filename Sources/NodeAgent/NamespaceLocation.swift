import Vocabulary

/// Where a workload's network namespace is found.
public enum NamespaceLocation: Hashable, Sendable, CustomStringConvertible {
  /// A file such as `/run/netns/web`.
  case path(String)
  /// The namespace a process runs in.
  case process(Int32)
  /// That of a pod, which is proven by the pod's addresses.
  case pod(PodPlacement)

  public var description: String {
    switch self {
    case .path(let path): path
    case .process(let process): "/proc/\(process)/ns/net"
    case .pod(let placement): placement.description
    }
  }

  /// The addresses its workload is known by; nil: whatever is found inside.
  var addresses: [IPAddress]? {
    switch self {
    case .path, .process: nil
    case .pod(let placement): placement.addresses
    }
  }
}
