import Glibc
import Linux
import Testing
import Vocabulary

@testable import Redirection

private let families: [IPAddress.Family] = [.v4, .v6]
private let proxyMark: UInt32 = 0x539
private let settings = RedirectionSettings(countsEscapes: true)

@Suite("A fenced namespace", .namespaces, .serialized)
struct FenceTests {
  private static func listing(_ family: IPAddress.Family) -> String {
    let probe = SpecificationListings.probe[family] ?? ""
    let neighbours = family == .v6 ? "-A ISTIO_FENCE_IN -p ipv6-icmp -j RETURN\n" : ""
    let neighboursOut = family == .v6 ? "-A ISTIO_FENCE_OUT -p ipv6-icmp -j RETURN\n" : ""
    return """
      *mangle
      :PREROUTING ACCEPT
      :INPUT ACCEPT
      :FORWARD ACCEPT
      :OUTPUT ACCEPT
      :POSTROUTING ACCEPT
      :ISTIO_FENCE_IN -
      :ISTIO_FENCE_OUT -
      -A INPUT -j ISTIO_FENCE_IN
      -A POSTROUTING -j ISTIO_FENCE_OUT
      -A ISTIO_FENCE_IN -i lo -j RETURN
      -A ISTIO_FENCE_IN -s \(probe) -p tcp -j RETURN
      -A ISTIO_FENCE_IN -p tcp -m tcp --dport 15008 -j RETURN
      -A ISTIO_FENCE_IN -p tcp -m tcp --dport 15006 -j RETURN
      -A ISTIO_FENCE_IN -m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY -j RETURN
      \(neighbours)-A ISTIO_FENCE_IN -j DROP
      -A ISTIO_FENCE_OUT -o lo -j RETURN
      -A ISTIO_FENCE_OUT -d \(probe) -p tcp -j RETURN
      -A ISTIO_FENCE_OUT -m mark --mark 0x539/0xfff -j RETURN
      \(neighboursOut)-A ISTIO_FENCE_OUT -j DROP
      COMMIT

      """
  }

  @Test("holds these rules, as iptables reads them, and none when the fence is down")
  func rules() throws {
    let pod = try TestNamespace()
    #expect(try pod.redirector.raiseFence(settings, in: pod.namespace))
    #expect(try pod.saved("iptables") == Self.listing(.v4))
    #expect(try pod.saved("ip6tables") == Self.listing(.v6))
    #expect(try !pod.redirector.raiseFence(settings, in: pod.namespace), "it is up already")
    #expect(try pod.redirector.prove(settings, in: pod.namespace).isFenced)
    #expect(try pod.redirector.lowerFence(in: pod.namespace))
    #expect(try pod.saved("iptables") == "")
    #expect(try pod.saved("ip6tables") == "")
    #expect(try !pod.redirector.lowerFence(in: pod.namespace))
    #expect(try !pod.redirector.prove(settings, in: pod.namespace).isFenced)
  }

  @Test("is redirected without the fence coming down, and the other way round")
  func independent() throws {
    let pod = try TestNamespace()
    let redirector = pod.redirector
    _ = try redirector.raiseFence(settings, in: pod.namespace)
    _ = try redirector.apply(settings, in: pod.namespace)
    var proof = try redirector.prove(settings, in: pod.namespace)
    #expect(proof.deviations.isEmpty && proof.isFenced)
    // The fence decides first.
    let jumps = try pod.run("iptables-legacy", "-t", "mangle", "-S", "POSTROUTING").split(separator: "\n").dropFirst()
    #expect(jumps == ["-A POSTROUTING -j ISTIO_FENCE_OUT", "-A POSTROUTING -j ISTIO_WATCH"])
    _ = try redirector.lowerFence(in: pod.namespace)
    proof = try redirector.prove(settings, in: pod.namespace)
    #expect(proof.deviations.isEmpty && !proof.isFenced)
    _ = try redirector.raiseFence(settings, in: pod.namespace)
    #expect(try redirector.check(settings, in: pod.namespace).isEmpty)
    _ = try redirector.remove(from: pod.namespace)
    #expect(try pod.saved() + pod.saved("ip6tables") == "", "removal takes the fence, too")
  }

  @Test(
    "with a hole in its fence is not taken for fenced",
    arguments: [
      ["-D", "INPUT", "-j", "ISTIO_FENCE_IN"], ["-F", "ISTIO_FENCE_OUT"], ["-I", "POSTROUTING", "-j", "ACCEPT"],
      ["-I", "ISTIO_FENCE_OUT", "-p", "tcp", "-j", "ACCEPT"], ["-D", "ISTIO_FENCE_IN", "-j", "DROP"],
    ])
  func holes(change: [String]) throws {
    let pod = try TestNamespace()
    for command in ["iptables-legacy", "ip6tables-legacy"] {
      _ = try pod.redirector.raiseFence(settings, in: pod.namespace)
      try Command.run(["ip", "netns", "exec", pod.name, command, "-t", "mangle"] + change)
      #expect(try !pod.redirector.prove(settings, in: pod.namespace).isFenced)
      #expect(try pod.redirector.raiseFence(settings, in: pod.namespace), "it is mended")
      #expect(try pod.redirector.prove(settings, in: pod.namespace).isFenced)
      _ = try pod.redirector.lowerFence(in: pod.namespace)
    }
  }

  @Test("lets nothing of the application out, and nobody in", arguments: families)
  func closed(family: IPAddress.Family) throws {
    let wire = try Wire()
    _ = try wire.redirector.raiseFence(settings, in: wire.pod.namespace)
    let server = try TestSocket.listening(in: wire.peer, on: SocketAddress(.any(family), 80))
    let application = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    #expect(
      try TestSocket.connected(in: wire.pod, to: SocketAddress(Wire.peerAddress(family), 80), within: 400) == nil)
    #expect(
      try TestSocket.connected(in: wire.peer, to: SocketAddress(Wire.podAddress(family), 8080), within: 400) == nil)
    #expect(try server.accepted(within: 0) == nil)
    #expect(try application.accepted(within: 0) == nil)
  }

  @Test("answers the host's probes", arguments: families)
  func probes(family: IPAddress.Family) throws {
    let wire = try Wire()
    _ = try wire.redirector.raiseFence(settings, in: wire.pod.namespace)
    let application = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    let probe = try TestSocket.connected(
      in: wire.peer, to: SocketAddress(Wire.podAddress(family), 8080), from: SocketAddress(Wire.probeAddress(family), 0)
    )
    #expect(probe?.send("GET") == true)
    #expect(try application.accepted()?.socket.received() == "GET")
  }

  @Test("still talks to itself", arguments: families)
  func loopback(family: IPAddress.Family) throws {
    let wire = try Wire()
    _ = try wire.redirector.raiseFence(settings, in: wire.pod.namespace)
    let server = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    for address in [IPAddress.loopback(family), Wire.podAddress(family)] {
      #expect(try TestSocket.connected(in: wire.pod, to: SocketAddress(address, 8080)) != nil)
      #expect(try server.accepted() != nil)
    }
  }

  @Test("leaves ztunnel to its work, in both directions", arguments: families)
  func proxy(family: IPAddress.Family) throws {
    let wire = try Wire()
    try wire.apply()
    _ = try wire.redirector.raiseFence(settings, in: wire.pod.namespace)
    let server = try TestSocket.listening(in: wire.peer, on: SocketAddress(.any(family), 80))
    let outbound = try TestSocket.connected(
      in: wire.pod, to: SocketAddress(Wire.peerAddress(family), 80), mark: proxyMark)
    #expect(outbound?.send("out") == true)
    let served = try server.accepted()?.socket
    #expect(served?.received() == "out")
    #expect(served?.send("back") == true)
    #expect(outbound?.received() == "back")

    for port in [15008, 8080] as [UInt16] {
      let listener = try TestSocket.listening(
        in: wire.pod, on: SocketAddress(.any(family), port == 15008 ? 15008 : 15006), mark: proxyMark)
      let client = try TestSocket.connected(in: wire.peer, to: SocketAddress(Wire.podAddress(family), port))
      #expect(client?.send("in") == true, "port \(port)")
      let accepted = try listener.accepted()?.socket
      #expect(accepted?.received() == "in", "port \(port)")
      #expect(accepted?.send("answer") == true)
      #expect(client?.received() == "answer", "port \(port)")
    }
  }

  @Test("carries on with the connections ztunnel has, and with no other", arguments: families)
  func established(family: IPAddress.Family) throws {
    let wire = try Wire()
    let server = try TestSocket.listening(in: wire.peer, on: SocketAddress(.any(family), 80))
    let application = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    let tunnel = try TestSocket.connected(
      in: wire.pod, to: SocketAddress(Wire.peerAddress(family), 80), mark: proxyMark)
    let tunnelEnd = try server.accepted()?.socket
    let direct = try TestSocket.connected(in: wire.pod, to: SocketAddress(Wire.peerAddress(family), 80))
    let directEnd = try server.accepted()?.socket
    let guest = try TestSocket.connected(in: wire.peer, to: SocketAddress(Wire.podAddress(family), 8080))
    let guestEnd = try application.accepted()?.socket
    #expect(tunnelEnd != nil && directEnd != nil && guestEnd != nil)

    _ = try wire.redirector.raiseFence(settings, in: wire.pod.namespace)
    _ = direct?.send("plaintext")
    _ = guest?.send("plaintext")
    _ = guestEnd?.send("plaintext")
    #expect(tunnel?.send("ciphertext") == true)
    #expect(tunnelEnd?.received() == "ciphertext")
    #expect(tunnelEnd?.send("answer") == true)
    #expect(tunnel?.received() == "answer")
    #expect(directEnd?.received(within: 300) == nil)
    #expect(guestEnd?.received(within: 0) == nil)
    #expect(guest?.received(within: 0) == nil)

    _ = try wire.redirector.lowerFence(in: wire.pod.namespace)
    #expect(directEnd?.received(within: 20000) == "plaintext", "what was open before goes on")
  }
}
