import Glibc
import Linux
import Testing
import Vocabulary

@testable import Redirection

private let families: [IPAddress.Family] = [.v4, .v6]

/// A node, which is the wire's peer, and a pod on it.
private final class Node {
  let wire = Result { try Wire() }
  let settings = RedirectionSettings(
    countsEscapes: true, probeRecognition: .hopLimit(node: families.map(Wire.peerAddress)))

  func marks(_ wire: Wire) -> HopLimitMarks {
    HopLimitMarks(ipv6: true, host: wire.peer.namespace, lockPath: wire.peer.lockPath, lockTimeout: .seconds(10))
  }

  /// Who got the connection that `connect` makes to the pod's port 8080.
  func receiver(_ wire: Wire, _ family: IPAddress.Family, _ connect: () throws -> TestSocket?) throws -> String {
    let application = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    let proxy = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15006))
    guard let connection = try connect() else { return "nobody" }
    defer { withExtendedLifetime(connection) {} }
    if try proxy.accepted(within: 300) != nil { return "ztunnel" }
    return try application.accepted(within: 300)?.peer.map { "application from \($0.ip)" } ?? "nobody"
  }
}

@Suite("Probes known by their hop limit", .namespaces, .serialized)
struct HopLimitTests {
  private let node = Node()

  @Test("need these rules, as iptables reads them")
  func rules() throws {
    let wire = try node.wire.get()
    #expect(try node.marks(wire).install() == ["mangle", "ip6 mangle"])
    #expect(try node.marks(wire).install() == [])
    for (tool, match, target, option) in [("iptables", "ttl", "TTL", "ttl"), ("ip6tables", "hl", "HL", "hl")] {
      let rules = try wire.peer.saved(tool).split(separator: "\n").filter { $0.hasPrefix("-A") }
      #expect(
        rules == [
          "-A POSTROUTING -j ISTIO_POSTRT",
          "-A ISTIO_POSTRT -p tcp -m owner --socket-exists -j \(target) --\(option)-set 255",
          "-A ISTIO_POSTRT -p tcp -m owner ! --socket-exists -m \(match) --\(option)-eq 255 -j \(target) --\(option)-set 254",
        ])
    }
    try wire.apply(node.settings)
    let pod = try wire.pod.saved().split(separator: "\n")
    #expect(pod.contains("-A ISTIO_PRERT -s 10.77.0.2/32 -p tcp -m ttl --ttl-eq 255 -j ACCEPT"))
    #expect(try !wire.pod.saved().contains("169.254.7.127"), "an address that nobody rewrites to is no way in")
    #expect(try wire.redirector.check(node.settings, in: wire.pod.namespace).isEmpty)
    #expect(try node.marks(wire).uninstall() == ["mangle", "ip6 mangle"])
    #expect(try wire.peer.saved() + wire.peer.saved("ip6tables") == "")
  }

  @Test("reach the application with the node's own address, also through a fence", arguments: families)
  func probe(family: IPAddress.Family) throws {
    let wire = try node.wire.get()
    _ = try node.marks(wire).install()
    try wire.apply(node.settings)
    for isFenced in [false, true] {
      if isFenced { _ = try wire.redirector.raiseFence(node.settings, in: wire.pod.namespace) }
      let receiver = try node.receiver(wire, family) {
        try TestSocket.connected(in: wire.peer, to: SocketAddress(Wire.podAddress(family), 8080))
      }
      #expect(receiver == "application from \(Wire.peerAddress(family))")
    }
    #expect(
      try TestSocket.connected(in: wire.pod, to: SocketAddress(Wire.peerAddress(family), 81), within: 300) == nil)
    #expect(try wire.redirector.prove(node.settings, in: wire.pod.namespace).escaped == 0)
  }

  @Test("are captured where the node does not mark them", arguments: families)
  func unmarked(family: IPAddress.Family) throws {
    let wire = try node.wire.get()
    try wire.apply(node.settings)
    let receiver = try node.receiver(wire, family) {
      try TestSocket.connected(in: wire.peer, to: SocketAddress(Wire.podAddress(family), 8080))
    }
    #expect(receiver == "ztunnel")
  }

  @Test("cannot be made by a peer whose packets the node forwards and gives its own address")
  func masqueraded() throws {
    let wire = try node.wire.get()
    let attacker = try TestNamespace()
    try attacker.ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth1", "netns", wire.peer.name)
    try attacker.ip("addr", "add", "10.78.0.1/24", "dev", "eth0")
    try attacker.ip("link", "set", "eth0", "up")
    try attacker.ip("route", "add", "default", "via", "10.78.0.2")
    try wire.peer.ip("addr", "add", "10.78.0.2/24", "dev", "eth1")
    try wire.peer.ip("link", "set", "eth1", "up")
    try wire.peer.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    try wire.peer.run("iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-s", "10.78.0.0/24", "-j", "MASQUERADE")
    _ = try node.marks(wire).install()
    try wire.apply(node.settings)
    let receiver = try node.receiver(wire, .v4) {
      try TestSocket.connected(in: attacker, to: SocketAddress(Wire.podAddress(.v4), 8080), hopLimit: 255)
    }
    #expect(receiver == "ztunnel")
  }

  @Test("cannot be made by a peer on the pod's own bridge, where nothing counts hops")
  func bridged() throws {
    let pod = try TestNamespace()
    let attacker = try TestNamespace()
    let host = try TestNamespace()
    try host.ip("link", "add", "br0", "type", "bridge")
    try host.ip("addr", "add", "10.77.0.2/24", "dev", "br0")
    try host.ip("link", "set", "br0", "up")
    for (side, number) in [(pod, 1), (attacker, 3)] {
      try side.ip("link", "add", "eth0", "type", "veth", "peer", "name", "veth\(number)", "netns", host.name)
      try side.ip("addr", "add", "10.77.0.\(number)/24", "dev", "eth0")
      try side.ip("link", "set", "eth0", "up")
      try side.ip("route", "add", "default", "via", "10.77.0.2")
      try host.ip("link", "set", "veth\(number)", "master", "br0", "up")
    }
    try host.run(
      "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/bridge/bridge-nf-call-iptables")
    // A node port, whose clients get the node's address.
    try host.run(
      "iptables-legacy", "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "30080", "-j", "DNAT",
      "--to-destination", "10.77.0.1:8080")
    try host.run(
      "iptables-legacy", "-t", "nat", "-A", "POSTROUTING", "-p", "tcp", "-d", "10.77.0.1", "-j", "MASQUERADE")
    let marks = HopLimitMarks(ipv6: false, host: host.namespace, lockPath: host.lockPath)
    _ = try marks.install()
    _ = try pod.redirector.apply(node.settings, in: pod.namespace)
    func attack() throws -> String {
      let application = try TestSocket.listening(in: pod, on: SocketAddress(.any(.v4), 8080))
      let proxy = try TestSocket.listening(in: pod, on: SocketAddress(.any(.v4), 15006))
      let connection = try TestSocket.connected(
        in: attacker, to: SocketAddress(Wire.peerAddress(.v4), 30080), hopLimit: 255)
      defer { withExtendedLifetime(connection) {} }
      if let accepted = try proxy.accepted(within: 300) { return "ztunnel from \(accepted.peer?.ip.description ?? "")" }
      return try application.accepted(within: 300) == nil ? "nobody" : "application"
    }
    #expect(try attack() == "ztunnel from 10.77.0.2", "it has the node's address, and is captured all the same")
  }
}
