import Foundation
import Glibc
import Linux
import Testing
import Vocabulary

@testable import Redirection

private let families: [IPAddress.Family] = [.v4, .v6]
private let proxyMark: UInt32 = 0x539
private let settings = RedirectionSettings(countsEscapes: true)

@Suite("Packets that escape", .namespaces, .serialized)
struct EscapeTests {
  private func escaped(_ wire: Wire) throws -> UInt64? {
    try wire.redirector.prove(settings, in: wire.pod.namespace).escaped
  }

  private func rules(_ pod: TestNamespace, _ family: String = "iptables") throws -> [Substring] {
    try pod.saved(family).split(separator: "\n").filter { $0.contains("ISTIO_WATCH") && $0.hasPrefix("-A") }
  }

  @Test("are none while everything is captured, whatever is sent", arguments: families)
  func none(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply(settings)
    let proxy = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15001), mark: proxyMark)
    _ = try TestSocket.listening(in: wire.peer, on: SocketAddress(.any(family), 80))
    let peer = SocketAddress(Wire.peerAddress(family), 80)
    #expect(try TestSocket.connected(in: wire.pod, to: peer) != nil)
    #expect(try proxy.accepted() != nil)
    _ = try TestSocket.connected(in: wire.pod, to: peer, mark: proxyMark)
    _ = try TestSocket.connected(in: wire.pod, to: SocketAddress(Wire.podAddress(family), 9), within: 200)
    _ = try TestSocket.connected(in: wire.pod, to: SocketAddress(Wire.probeAddress(family), 9), within: 200)
    _ = try TestSocket.connected(in: wire.peer, to: SocketAddress(Wire.podAddress(family), 15008), within: 200)
    #expect(try escaped(wire) == 0)
  }

  @Test("are counted when capture is gone, and are none behind a fence", arguments: families)
  func flushed(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply(settings)
    try wire.flushCapture(family)
    _ = try wire.redirector.raiseFence(settings, in: wire.pod.namespace)
    let peer = SocketAddress(Wire.peerAddress(family), 80)
    _ = try TestSocket.connected(in: wire.pod, to: peer, within: 200)
    #expect(try escaped(wire) == 0, "they are sent, and dropped")
    _ = try wire.redirector.lowerFence(in: wire.pod.namespace)
    _ = try TestSocket.connected(in: wire.pod, to: peer, within: 200)
    #expect(try escaped(wire) == 1)
    let server = try TestSocket.listening(in: wire.peer, on: SocketAddress(.any(family), 80))
    #expect(try TestSocket.connected(in: wire.pod, to: peer) != nil)
    #expect(try server.accepted() != nil)
    #expect(try escaped(wire) == 2)
  }

  @Test("are counted when the application's answers to ztunnel leave instead", arguments: families)
  func answers(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply(settings)
    _ = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    try wire.pod.ip(family == .v4 ? "-4" : "-6", "rule", "del", "pref", "32764")
    let application = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    _ = try TestSocket.connected(
      in: wire.pod, to: SocketAddress(Wire.podAddress(family), 8080), mark: proxyMark,
      from: SocketAddress(Wire.peerAddress(family), 0), borrowed: true, within: 300)
    _ = application
    #expect(try (escaped(wire) ?? 0) > 0)
  }

  @Test("make the rules deviate when somebody takes the count away, and counting goes on with the same rules")
  func countIsProven() throws {
    let pod = try TestNamespace()
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    #expect(try pod.redirector.apply(settings, in: pod.namespace) == RedirectionReport())
    let saved = try rules(pod)
    #expect(
      saved == [
        "-A POSTROUTING -j ISTIO_WATCH",
        "-A ISTIO_WATCH -o lo -j RETURN", "-A ISTIO_WATCH -d 169.254.7.127/32 -p tcp -j RETURN",
        "-A ISTIO_WATCH -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m mark ! --mark 0x539/0xfff",
        "-A ISTIO_WATCH -p tcp -m mark --mark 0x111/0xfff",
      ])
    try pod.run("iptables-legacy", "-t", "mangle", "-F", "ISTIO_WATCH")
    #expect(try !pod.redirector.prove(settings, in: pod.namespace).deviations.isEmpty)
  }
}

@Suite("Packets that would escape", .namespaces, .serialized)
struct StoppedEscapeTests {
  private let settings = RedirectionSettings(countsEscapes: true, stopsEscapes: true)

  private func reading(_ wire: Wire) throws -> [UInt64?] {
    let proof = try wire.redirector.prove(settings, in: wire.pod.namespace)
    return [proof.escaped, proof.stopped]
  }

  @Test("need these rules, as iptables reads them", arguments: families)
  func rules(family: IPAddress.Family) throws {
    let pod = try TestNamespace()
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    let probe = SpecificationListings.probe[family] ?? ""
    let saved = try pod.saved(family == .v4 ? "iptables" : "ip6tables").split(separator: "\n")
    #expect(
      saved.filter { $0.contains("ISTIO_WATCH") } == [
        ":ISTIO_WATCH -", ":ISTIO_WATCH_IN -", "-A INPUT -j ISTIO_WATCH_IN", "-A POSTROUTING -j ISTIO_WATCH",
        "-A ISTIO_WATCH -o lo -j RETURN", "-A ISTIO_WATCH -d \(probe) -p tcp -j RETURN",
        "-A ISTIO_WATCH -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m mark ! --mark 0x539/0xfff "
          + "-m owner --socket-exists -j DROP",
        "-A ISTIO_WATCH -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -m mark ! --mark 0x539/0xfff",
        "-A ISTIO_WATCH -p tcp -m mark --mark 0x111/0xfff",
        "-A ISTIO_WATCH_IN -i lo -j RETURN", "-A ISTIO_WATCH_IN -s \(probe) -p tcp -j RETURN",
        "-A ISTIO_WATCH_IN -p tcp -m tcp --dport 15006 -j RETURN",
        "-A ISTIO_WATCH_IN -p tcp -m tcp --dport 15008 -j RETURN",
        "-A ISTIO_WATCH_IN -p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
      ])
    #expect(try pod.redirector.apply(settings, in: pod.namespace) == RedirectionReport())
    _ = try pod.redirector.remove(from: pod.namespace)
    #expect(try pod.saved() + pod.saved("ip6tables") == "")
  }

  @Test("are let in where inbound capture is bypassed, and to ztunnel from interfaces that are captured")
  func modes() {
    let open = RedirectionSettings(bypassInboundCapture: true, countsEscapes: true, stopsEscapes: true)
    #expect(!Redirector.listing(open).contains("ISTIO_WATCH_IN"))
    #expect(Redirector.listing(open).contains("--socket-exists -j DROP"))
    let nested = RedirectionSettings(
      rerouteInterfaces: [InterfaceName("tap0")].compactMap { $0 }, countsEscapes: true, stopsEscapes: true)
    #expect(Redirector.listing(nested).contains("-A ISTIO_WATCH_IN -i tap0 -p tcp -m tcp --dport 15001 -j RETURN"))
    let uncounted = Redirector.listing(RedirectionSettings(stopsEscapes: true)).split(separator: "\n")
    #expect(uncounted.count { $0.hasSuffix("-j DROP") } == 4, "stopped all the same")
    #expect(!uncounted.contains { $0.hasPrefix("-A ISTIO_WATCH -p tcp") && !$0.contains("-j") })
    var blind = settings
    blind.tellsSenders = false
    #expect(!Redirector.listing(blind).contains("owner"))
    #expect(Redirector.listing(blind).contains("-A ISTIO_WATCH_IN -p tcp"), "who comes in is stopped all the same")
  }

  @Test("are none while everything is captured, and nothing is stopped", arguments: families)
  func none(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply(settings)
    let outbound = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15001), mark: proxyMark)
    let inbound = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15006), mark: proxyMark)
    let tunnels = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15008), mark: proxyMark)
    let application = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    let server = try TestSocket.listening(in: wire.peer, on: SocketAddress(.any(family), 80))
    let pod = Wire.podAddress(family)
    let peer = Wire.peerAddress(family)
    #expect(try TestSocket.connected(in: wire.pod, to: SocketAddress(peer, 80)) != nil)
    #expect(try outbound.accepted() != nil)
    #expect(try TestSocket.connected(in: wire.pod, to: SocketAddress(peer, 80), mark: proxyMark) != nil)
    #expect(try server.accepted() != nil)
    #expect(try TestSocket.connected(in: wire.peer, to: SocketAddress(pod, 8080)) != nil)
    #expect(try inbound.accepted() != nil)
    #expect(try TestSocket.connected(in: wire.peer, to: SocketAddress(pod, 15008)) != nil)
    #expect(try tunnels.accepted() != nil)
    // The application itself, ztunnel with a client's address, and the host's probe.
    #expect(try TestSocket.connected(in: wire.pod, to: SocketAddress(pod, 8080)) != nil)
    #expect(
      try TestSocket.connected(
        in: wire.pod, to: SocketAddress(pod, 8080), mark: proxyMark, from: SocketAddress(peer, 0), borrowed: true)
        != nil)
    #expect(
      try TestSocket.connected(
        in: wire.peer, to: SocketAddress(pod, 8080), from: SocketAddress(Wire.probeAddress(family), 0)) != nil)
    for _ in 0..<3 { #expect(try application.accepted() != nil) }
    #expect(try reading(wire) == [0, 0])
  }

  @Test(
    "are dropped when capture is gone, and the next attempt is captured when it is whole again", arguments: families)
  func flushed(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply(settings)
    let outbound = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15001), mark: proxyMark)
    let inbound = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15006), mark: proxyMark)
    let application = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    let server = try TestSocket.listening(in: wire.peer, on: SocketAddress(.any(family), 80))
    for (client, target, proxy) in [
      (wire.pod, SocketAddress(Wire.peerAddress(family), 80), outbound),
      (wire.peer, SocketAddress(Wire.podAddress(family), 8080), inbound),
    ] {
      try wire.flushCapture(family)
      let before = try reading(wire)
      let repaired = DispatchSemaphore(value: 0)
      Thread.detachNewThread { [settings] in
        usleep(300_000)
        try? wire.apply(settings)
        repaired.signal()
      }
      let connection = try TestSocket.connected(in: client, to: target, within: 10_000)
      #expect(connection != nil)
      #expect(try proxy.accepted(within: 10_000)?.wanted == target)
      #expect(repaired.wait(timeout: .now() + 10) == .success)
      #expect(try reading(wire).map { $0 ?? 0 } == [before[0] ?? 0, (before[1] ?? 0) + 1])
    }
    #expect(try application.accepted(within: 0) == nil)
    #expect(try server.accepted(within: 0) == nil)
  }

  @Test("on their way from a nested machine are counted, and go on", arguments: families)
  func forwarded(family: IPAddress.Family) throws {
    let wire = try Wire()
    let nested = try TestNamespace()
    try wire.pod.ip("link", "add", "tap0", "type", "veth", "peer", "name", "eth0", "netns", nested.name)
    for (side, device, number) in [(wire.pod, "tap0", 1), (nested, "eth0", 2)] {
      try side.ip("addr", "add", "10.78.0.\(number)/24", "dev", device)
      try side.ip("addr", "add", "fd78::\(number)/64", "dev", device, "nodad")
      try side.ip("link", "set", device, "up")
    }
    try nested.ip("route", "add", "default", "via", "10.78.0.1")
    try nested.ip("-6", "route", "add", "default", "via", "fd78::1")
    try wire.pod.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    // The peer routes by default to the pod. While capture is whole, none of it is forwarded.
    try wire.apply(settings)
    try wire.flushCapture(family)
    let server = try TestSocket.listening(in: wire.peer, on: SocketAddress(.any(family), 80))
    #expect(try TestSocket.connected(in: nested, to: SocketAddress(Wire.peerAddress(family), 80)) != nil)
    #expect(try server.accepted() != nil)
    let proof = try wire.redirector.prove(settings, in: wire.pod.namespace)
    // A packet that has to wait for its neighbour's address may be sent again.
    #expect((proof.escaped ?? 0) >= 1)
    #expect(proof.stopped == 0)
  }
}
