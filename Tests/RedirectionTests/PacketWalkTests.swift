import Glibc
import Linux
import Testing
import Vocabulary

@testable import Redirection

private let families: [IPAddress.Family] = [.v4, .v6]
private let proxyMark: UInt32 = 0x539

@Suite("Packets of a redirected namespace", .namespaces, .serialized)
struct PacketWalkTests {
  @Test("that leave reach ztunnel's outbound port, which learns where they wanted to go", arguments: families)
  func outbound(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply()
    let proxy = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15001))
    let wanted = SocketAddress(Wire.peerAddress(family), 80)
    let client = try TestSocket.connected(in: wire.pod, to: wanted)
    #expect(client != nil)
    #expect(try proxy.accepted()?.wanted == wanted)
  }

  @Test("that ztunnel sends itself leave directly", arguments: families)
  func ownOutbound(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply()
    let proxy = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15001))
    let server = try TestSocket.listening(in: wire.peer, on: SocketAddress(.any(family), 80))
    let client = try TestSocket.connected(
      in: wire.pod, to: SocketAddress(Wire.peerAddress(family), 80), mark: proxyMark)
    #expect(client != nil)
    #expect(try server.accepted() != nil)
    #expect(try proxy.accepted(within: 100) == nil)
  }

  @Test(
    "that arrive in plaintext reach ztunnel's inbound port, which learns where they wanted to go", arguments: families)
  func inbound(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply()
    let application = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    let proxy = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15006))
    let wanted = SocketAddress(Wire.podAddress(family), 8080)
    let client = try TestSocket.connected(in: wire.peer, to: wanted)
    #expect(client != nil)
    let accepted = try proxy.accepted()
    #expect(accepted?.wanted == wanted)
    #expect(accepted?.peer?.ip == Wire.peerAddress(family))
    #expect(try application.accepted(within: 100) == nil)
  }

  @Test("that arrive as HBONE keep their port", arguments: families)
  func hbone(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply()
    let proxy = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15008))
    let client = try TestSocket.connected(in: wire.peer, to: SocketAddress(Wire.podAddress(family), 15008))
    #expect(client != nil)
    #expect(try proxy.accepted()?.peer?.ip == Wire.peerAddress(family))
  }

  @Test("that are host probes reach the application directly", arguments: families)
  func probe(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply()
    let application = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    let client = try TestSocket.connected(
      in: wire.peer, to: SocketAddress(Wire.podAddress(family), 8080),
      from: SocketAddress(Wire.probeAddress(family), 0))
    #expect(client != nil)
    #expect(try application.accepted()?.peer?.ip == Wire.probeAddress(family))
  }

  @Test("that arrive are left alone in ingress mode, while those that leave are captured", arguments: families)
  func ingress(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply(RedirectionSettings(bypassInboundCapture: true))
    let application = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    let proxy = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15001))
    let client = try TestSocket.connected(in: wire.peer, to: SocketAddress(Wire.podAddress(family), 8080))
    #expect(client != nil)
    #expect(try application.accepted() != nil)
    let wanted = SocketAddress(Wire.peerAddress(family), 81)
    let outbound = try TestSocket.connected(in: wire.pod, to: wanted)
    #expect(outbound != nil)
    #expect(try proxy.accepted()?.wanted == wanted)
  }

  @Test("that enter through a named interface count as outbound")
  func interfaces() throws {
    let wire = try Wire()
    try wire.apply(RedirectionSettings(rerouteInterfaces: [InterfaceName("eth0")].compactMap { $0 }))
    let proxy = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(.v4), 15001))
    let wanted = SocketAddress(Wire.podAddress(.v4), 8080)
    let client = try TestSocket.connected(in: wire.peer, to: wanted)
    #expect(client != nil)
    #expect(try proxy.accepted()?.wanted == wanted)
  }

  @Test("between ztunnel with a client's address and the application find their way both ways", arguments: families)
  func borrowedAddress(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply()
    let application = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    let upstream = try TestSocket.connected(
      in: wire.pod, to: SocketAddress(Wire.podAddress(family), 8080), mark: proxyMark,
      from: SocketAddress(Wire.peerAddress(family), 0), borrowed: true)
    let accepted = try application.accepted()
    #expect(accepted?.peer?.ip == Wire.peerAddress(family), "the application sees the client, not the proxy")
    #expect(upstream?.send("question") == true)
    #expect(accepted?.socket.received() == "question")
    #expect(accepted?.socket.send("answer") == true)
    #expect(upstream?.received() == "answer")
  }

  @Test(
    "between ztunnel and the application hang without the mark, or without the policy rule",
    arguments: [
      "iptables-legacy -t mangle -D ISTIO_PRERT 1", "iptables-legacy -t mangle -D ISTIO_OUTPUT 1",
      "ip rule del pref 32764", "ip route del local default dev lo table 100",
    ])
  func borrowedAddressNeedsAll(damage: String) throws {
    let wire = try Wire()
    try wire.apply()
    try Command.run(["ip", "netns", "exec", wire.pod.name] + damage.split(separator: " ").map(String.init))
    let application = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(.v4), 8080))
    let upstream = try TestSocket.connected(
      in: wire.pod, to: SocketAddress(Wire.podAddress(.v4), 8080), mark: proxyMark,
      from: SocketAddress(Wire.peerAddress(.v4), 0), borrowed: true, within: 700)
    #expect(upstream == nil)
    withExtendedLifetime(application) {}
  }

  @Test("to the application's own address stay direct", arguments: families)
  func ownAddress(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply()
    let application = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    let client = try TestSocket.connected(in: wire.pod, to: SocketAddress(Wire.podAddress(family), 8080))
    #expect(client != nil)
    #expect(try application.accepted()?.peer?.ip == Wire.podAddress(family))
  }

  @Test("that ask for names reach ztunnel when DNS is captured, over UDP and TCP", arguments: [true, false])
  func dns(isCaptured: Bool) throws {
    let wire = try Wire()
    try wire.apply(RedirectionSettings(dnsCapture: isCaptured))
    let proxy = try TestDatagrams(in: wire.pod, port: 15053)
    let resolver = try TestDatagrams(in: wire.peer, port: 53)
    let application = try TestDatagrams(in: wire.pod, port: 0)
    try application.send("query", to: 0x0a4d_0002, port: 53)
    #expect(isCaptured ? proxy.received() == "query" : resolver.received() == "query")

    let proxyTCP = try TestSocket.listening(
      in: wire.pod, on: SocketAddress(.any(.v4), isCaptured ? 15053 : 15001))
    let wanted = SocketAddress(Wire.peerAddress(.v4), 53)
    let client = try TestSocket.connected(in: wire.pod, to: wanted)
    #expect(client != nil)
    #expect(try proxyTCP.accepted()?.wanted == wanted)
  }

  @Test("with ztunnel's own name queries and their answers pass")
  func ownDNS() throws {
    let wire = try Wire()
    try wire.apply(RedirectionSettings(dnsCapture: true))
    let proxy = try TestDatagrams(in: wire.pod, port: 15053)
    let resolver = try TestDatagrams(in: wire.peer, port: 53)
    let upstream = try TestDatagrams(in: wire.pod, port: 0, mark: proxyMark)
    try upstream.send("query", to: 0x0a4d_0002, port: 53)
    #expect(resolver.received() == "query")
    try resolver.answer("answer")
    #expect(upstream.received() == "answer")
    #expect(proxy.received(within: 100) == nil)
  }

  @Test("flow as before once the redirection is removed", arguments: families)
  func removed(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply(RedirectionSettings(dnsCapture: true))
    _ = try wire.redirector.remove(from: wire.pod.namespace)
    let server = try TestSocket.listening(in: wire.peer, on: SocketAddress(.any(family), 80))
    let client = try TestSocket.connected(in: wire.pod, to: SocketAddress(Wire.peerAddress(family), 80))
    #expect(client != nil)
    #expect(try server.accepted()?.peer?.ip == Wire.podAddress(family))
  }
}

/// An IPv4 UDP socket inside a namespace.
private final class TestDatagrams {
  private let descriptor: SharedDescriptor
  private var sender = sockaddr_in()

  init(in pod: TestNamespace, port: UInt16, mark: UInt32 = 0) throws {
    let opened = try pod.namespace.enter {
      Descriptor(owning: try system("socket") { socket(AF_INET, CInt(SOCK_DGRAM.rawValue), 0) })
    }
    descriptor = SharedDescriptor(opened)
    if mark != 0 { try TCPSocket.setMark(descriptor.raw, mark) }
    try TCPSocket.bind(descriptor.raw, .v4, to: SocketAddress(.any(.v4), port))
  }

  func send(_ text: String, to address: UInt32, port: UInt16) throws {
    var destination = sockaddr_in()
    destination.sin_family = sa_family_t(AF_INET)
    destination.sin_addr.s_addr = address.bigEndian
    destination.sin_port = port.bigEndian
    try send(text, destination)
  }

  /// Answers whoever sent last.
  func answer(_ text: String) throws { try send(text, sender) }

  private func send(_ text: String, _ destination: sockaddr_in) throws {
    let bytes = Array(text.utf8)
    try withUnsafePointer(to: destination) { pointer in
      try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { address in
        _ = try system("sendto") {
          sendto(descriptor.raw, bytes, bytes.count, 0, address, socklen_t(MemoryLayout<sockaddr_in>.size))
        }
      }
    }
  }

  func received(within milliseconds: CInt = 3000) -> String? {
    guard TestSocket.waits(descriptor.raw, POLLIN, milliseconds) else { return nil }
    var buffer = [UInt8](repeating: 0, count: 256)
    var size = socklen_t(MemoryLayout<sockaddr_in>.size)
    let count = withUnsafeMutablePointer(to: &sender) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        recvfrom(descriptor.raw, &buffer, 256, 0, $0, &size)
      }
    }
    return count < 0 ? nil : String(decoding: buffer.prefix(count), as: UTF8.self)
  }
}
