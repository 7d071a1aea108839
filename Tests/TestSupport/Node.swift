import Linux
import Synchronization
public import Vocabulary

/// A machine of a ``TestNetwork``: a namespace that routes for the pods behind its bridge.
public final class Node: NamespaceHolder {
  public let place: TestNamespace
  /// From 1, part of every address.
  public let index: Int
  private let podCount = Mutex(0)

  init(_ place: TestNamespace, index: Int) throws {
    self.place = place
    self.index = index
    try place.setKernelParameters([
      "net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1",
    ])
    try place.ip([
      "link add pods type bridge", "link set pods up",
      "addr add 10.\(index).0.1/24 dev pods", "addr add fd00:\(index)::1/64 dev pods nodad",
    ])
  }

  /// Its address on the wire between nodes.
  public func address(_ family: IPAddress.Family) -> IPAddress {
    switch family {
    case .v4: .v4(0xac1e_0000 | UInt32(index))
    case .v6: .v6(0xfd01_0000_0000_0000, UInt64(index))
    }
  }

  /// The range its pods are in.
  public func podRange(_ family: IPAddress.Family) -> String {
    switch family {
    case .v4: "10.\(index).0.0/24"
    case .v6: "fd00:\(index)::/64"
    }
  }

  /// A pod on this node, with IPv4 and IPv6 and a default route over the node: at most 250.
  public func pod(_ label: String) throws -> Pod {
    let number = podCount.withLock { count in
      count += 1
      return count + 1
    }
    let pod = Pod(
      place: try place.network.namespace(label), node: self,
      ipv4: .v4(0x0a00_0000 | UInt32(index) << 16 | UInt32(number)),
      ipv6: .v6(0xfd00_0000_0000_0000 | UInt64(index) << 32, UInt64(number)))
    try place.network.link(pod, "eth0", ["\(pod.ipv4)/24", "\(pod.ipv6)/64"], to: self, "pod\(number)")
    try place.ip(["link set pod\(number) master pods"])
    try pod.place.ip(["route add default via 10.\(index).0.1", "route add ::/0 via fd00:\(index)::1"])
    return pod
  }

  func route(to other: Node) throws {
    try place.ip([
      "route add \(other.podRange(.v4)) via \(other.address(.v4))",
      "route add \(other.podRange(.v6)) via \(other.address(.v6))",
    ])
  }
}

/// A pod of a ``Node``, reached by its addresses from every other.
public struct Pod: NamespaceHolder {
  public let place: TestNamespace
  public let node: Node
  public let ipv4: IPAddress
  public let ipv6: IPAddress

  /// Its address of a family.
  public func address(_ family: IPAddress.Family) -> IPAddress { family == .v4 ? ipv4 : ipv6 }
}
