import Foundation
import Linux
import Redirection
import TestSupport
import Testing
import Vocabulary

@Suite(
  "DNS queries that ztunnel forwards",
  .requires(.root, .command("ip"), .command("dig"), .command("dnsmasq"), .command("unshare")))
struct DNSUpstreamTests {
  /// Where the client believes its resolver to be.
  private func claimed() throws -> SocketAddress {
    SocketAddress(try #require(IPAddress(DNSFixture.claimed[.v4] ?? "")), 53)
  }

  private func answer(_ query: [UInt8], flags: [UInt8] = [0x85, 0x80]) -> [UInt8] {
    [UInt8](query.prefix(2)) + flags + query.dropFirst(4)
  }

  @Test("leave as the pod, each from a port and with an id that cannot be guessed; forged answers change nothing")
  func unguessable() async throws {
    try await DNSFixture.with { dns in
      let upstream = try DatagramSocket(in: dns.resolver.pod, port: 53)
      let forger = try DatagramSocket(in: dns.resolver.pod)
      let query = Datagrams.query("www.example.com", type: 1)
      var ports: Set<UInt16> = []
      var ids: Set<[UInt8]> = []
      for _ in 0..<20 {
        let client = try DatagramSocket(in: dns.client.pod)
        try client.send(query, to: claimed())
        let (message, sender) = try #require(try upstream.receive())
        #expect(sender.ip == dns.client.pod.ipv4)
        #expect(message.dropFirst(2) == query.dropFirst(2))
        ports.insert(sender.port)
        ids.insert([UInt8](message.prefix(2)))
        let forged = answer(message, flags: [0x85, 0x83])
        try forger.send(forged, to: sender)
        try upstream.send([forged[0] ^ 1] + forged.dropFirst(), to: sender)
        try upstream.send(answer(message), to: sender)
        #expect(try client.receive()?.message == answer(query))
      }
      #expect(ports.count > 15)
      #expect(ids.count > 15)
    }
  }

  @Test("go to the next resolver when the first does not answer, and to that one first from then on")
  func nextServer() async throws {
    try await DNSFixture.with(servers: ["10.2.0.250", DNSFixture.resolverAddress], options: "timeout:2") { dns in
      try dns.startResolver(["--host-record=www.example.com,192.0.2.1"])
      for transport in ["+notcp", "+tcp"] {
        #expect(try dns.answers(transport, "www.example.com", "A") == ["192.0.2.1"], "\(transport)")
      }
      // Each worker learns by itself.
      _ = try (0..<8).map { _ in try dns.answers("www.example.com", "A") }
      let start = ContinuousClock.now
      #expect(try dns.answers("www.example.com", "A") == ["192.0.2.1"])
      #expect(.now - start < .milliseconds(900))
    }
  }

  @Test("are bounded: those beyond the limit fail at once, and the others still get their answers")
  func bounded() async throws {
    try await DNSFixture.with(options: "timeout:10 attempts:1") { dns in
      let upstream = try DatagramSocket(in: dns.resolver.pod, port: 53)
      let client = try DatagramSocket(in: dns.client.pod)
      var failures = 0
      var asked: [(message: [UInt8], sender: SocketAddress)] = []
      for burst in 0..<16 {
        for index in 0..<64 {
          try client.send(Datagrams.query("q\(burst).x\(index).example.com", type: 1), to: claimed())
        }
        while let next = try upstream.receive(within: .milliseconds(50)) { asked.append(next) }
        while let reply = try client.receive(within: .milliseconds(1)) {
          #expect(reply.message[3] & 15 == 2, "SERVFAIL")
          failures += 1
        }
      }
      #expect((200...512).contains(asked.count), "\(asked.count)")
      #expect(failures + asked.count == 1024, "\(failures) \(asked.count)")
      for query in asked { try upstream.send(answer(query.message), to: query.sender) }
      let answered = try client.receiveAll()
      #expect(answered.count > asked.count / 2, "a burst may lose some at the client's own socket")
      #expect(answered.allSatisfy { $0.message[3] & 15 == 0 })
    }
  }

  @Test("reach a resolver on the loopback of the proxy's own namespace")
  func loopback() async throws {
    try await DNSFixture.with(servers: ["127.0.0.53"]) { dns in
      let options = ["--listen-address=127.0.0.53", "--bind-interfaces", "--host-record=www.example.com,192.0.2.1"]
      try dns.startResolver(options, in: dns.mesh.left.node)
      for transport in ["+notcp", "+tcp"] {
        #expect(try dns.answers(transport, "www.example.com", "A") == ["192.0.2.1"], "\(transport)")
      }
    }
  }

  @Test("are answered before the proxy ends")
  func drained() async throws {
    try await DNSFixture.with(options: "timeout:10 attempts:1") { dns in
      let upstream = try DatagramSocket(in: dns.resolver.pod, port: 53)
      let client = try DatagramSocket(in: dns.client.pod)
      let query = Datagrams.query("www.example.com", type: 1)
      try client.send(query, to: claimed())
      let (message, sender) = try #require(try upstream.receive())
      let ztunnel = try dns.mesh.left.ztunnel
      ztunnel.signal(SIGTERM)
      try #require(ztunnel.waitForLine(containing: "shutting down") != nil)
      try upstream.send(answer(message), to: sender)
      #expect(try client.receive()?.message == answer(query))
      #expect(ztunnel.waitForExit(within: .seconds(1)) == 0, "nothing is left to wait for")
    }
  }

  @Test("and all others are served in a pod whose loopback has no IPv6")
  func withoutIPv6() async throws {
    try await DNSFixture.with { dns in
      try dns.startResolver(["--host-record=www.example.com,192.0.2.1"])
      let pod = try await dns.mesh.pod("old", on: dns.mesh.left, enrolled: false)
      try pod.pod.place.setKernelParameters(["net/ipv6/conf/lo/disable_ipv6": "1"])
      try await dns.mesh.left.agent.enrol(pod, RedirectionSettings(dnsCapture: true))
      let old = DNSFixture(mesh: dns.mesh, client: pod, resolver: dns.resolver)
      #expect(try old.answers("www.example.com", "A") == ["192.0.2.1"])
      #expect(try old.answers("+tcp", "www.example.com", "A") == ["192.0.2.1"])
    }
  }
}
