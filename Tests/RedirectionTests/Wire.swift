import Linux
import Vocabulary

@testable import Redirection

/// A pod and somebody it talks to, on one wire.
final class Wire: Sendable {
  let pod: TestNamespace
  let peer: TestNamespace
  var redirector: Redirector { pod.redirector }

  init() throws {
    pod = try TestNamespace()
    peer = try TestNamespace()
    try pod.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", peer.name)
    for (side, number, other) in [(pod, 1, 2), (peer, 2, 1)] {
      try side.ip("addr", "add", "10.77.0.\(number)/24", "dev", "eth0")
      try side.ip("addr", "add", "fd77::\(number)/64", "dev", "eth0", "nodad")
      try side.ip("link", "set", "eth0", "up")
      try side.ip("route", "add", "default", "via", "10.77.0.\(other)")
      try side.ip("-6", "route", "add", "default", "via", "fd77::\(other)")
    }
    try peer.ip("addr", "add", "169.254.7.127/32", "dev", "eth0")
    try peer.ip("addr", "add", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128", "dev", "eth0", "nodad")
  }

  func apply(_ settings: RedirectionSettings = RedirectionSettings()) throws {
    _ = try redirector.apply(settings, in: pod.namespace)
  }

  /// Empties the pod's `nat` table, as a careless hand does.
  func flushCapture(_ family: IPAddress.Family) throws {
    try pod.run(family == .v4 ? "iptables-legacy" : "ip6tables-legacy", "-t", "nat", "-F")
  }

  static func podAddress(_ family: IPAddress.Family) -> IPAddress {
    family == .v4 ? .v4(0x0a4d_0001) : .v6(0xfd77_0000_0000_0000, 1)
  }

  static func peerAddress(_ family: IPAddress.Family) -> IPAddress {
    family == .v4 ? .v4(0x0a4d_0002) : .v6(0xfd77_0000_0000_0000, 2)
  }

  static func probeAddress(_ family: IPAddress.Family) -> IPAddress { RedirectionSettings().probeSource(family) }
}
