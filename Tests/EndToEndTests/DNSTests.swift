import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

@Suite(
  "DNS of a captured pod", .requires(.root, .command("ip"), .command("dig"), .command("dnsmasq"), .command("unshare")))
struct DNSTests {
  private static func service(_ host: String, vips: [String] = [], endpoints: [MeshPod] = []) -> String {
    let members = endpoints.map {
      "\"\($0.uid)\": {workloadUid: \"\($0.uid)\", port: {80: 8080}}"
    }
    return """
      - name: "\(host.split(separator: ".").first ?? "")"
        namespace: demo
        hostname: "\(host)"
        vips: [\(vips.map { "\"/\($0)\"" }.joined(separator: ", "))]
        ports: {80: 8080}
        endpoints: {\(members.joined(separator: ", "))}
      """
  }

  @Test("is answered from the mesh for services of every kind, over UDP and TCP, in both families")
  func services() async throws {
    try await DNSFixture.with { dns in
      let members = [
        try await dns.mesh.pod("one", on: dns.mesh.right), try await dns.mesh.pod("two", on: dns.mesh.right),
      ]
      try dns.mesh.add(services: [
        Self.service("web.demo.svc.cluster.local", vips: ["10.96.0.1", "fd00:96::1"]),
        Self.service("old.demo.svc.cluster.local", vips: ["10.96.0.2"]),
        Self.service("crowd.demo.svc.cluster.local", endpoints: members),
        Self.service("*.wild.example", vips: ["10.96.0.3"]),
      ])
      for (family, transport) in [(IPAddress.Family.v4, "+notcp"), (.v4, "+tcp"), (.v6, "+notcp"), (.v6, "+tcp")] {
        #expect(
          try dns.answers(transport, "web.demo.svc.cluster.local", "A", family: family) == ["10.96.0.1"],
          "\(family) \(transport)")
      }
      #expect(try dns.answers("web.demo.svc.cluster.local", "AAAA") == ["fd00:96::1"])
      #expect(try dns.answers("web", "A") == ["10.96.0.1"], "a short name")
      #expect(try dns.answers("web.demo", "A") == ["10.96.0.1"])
      #expect(try dns.answers("web.demo.demo.svc.cluster.local", "A") == ["10.96.0.1", "web.demo."])
      #expect(try dns.answers("a.b.wild.example", "A") == ["10.96.0.3"])
      #expect(try dns.answers("crowd.demo.svc.cluster.local", "A") == members.map(\.pod.ipv4.description).sorted())
      #expect(try dns.answers("crowd.demo.svc.cluster.local", "AAAA") == members.map(\.pod.ipv6.description).sorted())

      let answer = try dns.dig("WEB.demo.svc.cluster.local", "A")
      #expect(answer.contains("status: NOERROR"))
      #expect(answer.contains("flags: qr aa rd ra;"))
      #expect(answer.contains("WEB.demo.svc.cluster.local. 30\tIN\tA\t10.96.0.1"))
      let none = try dns.dig("old.demo.svc.cluster.local", "AAAA")
      #expect(none.contains("status: NOERROR"))
      #expect(none.contains("ANSWER: 0, AUTHORITY: 1"))
      #expect(
        none.split(separator: "\n").contains { $0.hasPrefix("old.demo.svc.cluster.local. 5") && $0.contains("SOA") })

      let line = try #require(
        try dns.mesh.left.ztunnel.waitForLine("\tdns\t", "domain=\"WEB.demo.svc.cluster.local.\""))
      #expect(line.contains("src.workload=\"client\""))
      #expect(line.contains("src.namespace=\"demo\""))
      #expect(line.contains("query=\"A\""))
      #expect(line.contains("result=\"success\""))
    }
  }

  @Test("is forwarded byte for byte where the mesh knows nothing, and so is the answer")
  func forwarded() async throws {
    try await DNSFixture.with { dns in
      try dns.startResolver([
        "--host-record=www.example.com,192.0.2.1,2001:db8::1", "--txt-record=text.example.com,hello world",
        "--mx-host=example.com,mail.example.com,10", "--srv-host=_http._tcp.example.com,elsewhere.example.org,80",
      ])
      #expect(try dns.answers("www.example.com", "A") == ["192.0.2.1"])
      #expect(try dns.answers("www.example.com", "AAAA", family: .v6) == ["2001:db8::1"])
      #expect(try dns.answers("+tcp", "text.example.com", "TXT") == ["\"hello world\""])
      #expect(try dns.answers("example.com", "MX") == ["10 mail.example.com."])
      let absent = try dns.dig("absent.example.com", "A")
      #expect(absent.contains("status: NXDOMAIN"), "\(absent)")

      let claimed = try #require(IPAddress(DNSFixture.claimed[.v4] ?? ""))
      for (name, type) in [
        ("text.example.com", 16), ("example.com", 15), ("_http._tcp.example.com", 33), ("absent.example.com", 1),
        ("WWW.Example.Com", 28),
      ] as [(String, UInt8)] {
        let query = Datagrams.query(name, type: type)
        let direct = try Datagrams.exchange(query, with: dns.resolver.address(port: 53), in: dns.mesh.right.node)
        let captured = try Datagrams.exchange(query, with: SocketAddress(claimed, 53), in: dns.client.pod)
        #expect(direct != nil)
        #expect(captured == direct, "\(name) \(type)")
      }
      let status = Datagrams.query("example.com", type: 6, opcode: 4)
      let direct = try Datagrams.exchange(status, with: dns.resolver.address(port: 53), in: dns.mesh.right.node)
      #expect(direct != nil)
      #expect(
        try Datagrams.exchange(status, with: SocketAddress(claimed, 53), in: dns.client.pod) == direct,
        "another opcode")
      #expect(try dns.mesh.left.ztunnel.waitForLine("\tdns\t", "result=\"forwarded\"") != nil)
    }
  }

  @Test("that is too large for a datagram is truncated, and whole over TCP")
  func large() async throws {
    try await DNSFixture.with { dns in
      let texts = (10..<40).map { "\($0)" + String(repeating: "x", count: 150) }
      try dns.startResolver(texts.map { "--txt-record=big.example.com,\($0)" })
      let vips = (1...200).map { "10.97.0.\($0)" }
      try dns.mesh.add(services: [Self.service("many.demo.svc.cluster.local", vips: vips)])

      for (name, type, count) in [("big.example.com", "TXT", texts.count), ("many", "A", vips.count)] {
        let truncated = try dns.dig("+ignore", "+notcp", name, type)
        #expect(truncated.contains(" tc "), "\(truncated)")
        #expect(try dns.answers("+notcp", name, type).count == count, "dig asks again over TCP")
        #expect(try dns.answers("+tcp", name, type).count == count)
      }
      let small = try dns.dig("+ignore", "+notcp", "+noedns", "many", "A")
      #expect(small.contains(" tc "))
      #expect(small.contains("ANSWER: 30,"), "512 bytes without EDNS")
    }
  }

  @Test("fails within the configured time when no resolver answers")
  func upstreamDown() async throws {
    try await DNSFixture.with(options: "timeout:2 attempts:2") { dns in
      try dns.mesh.add(services: [Self.service("web.demo.svc.cluster.local", vips: ["10.96.0.1"])])
      for transport in ["+notcp", "+tcp"] {
        let start = ContinuousClock.now
        let refused = try dns.dig(transport, "www.example.com", "A")
        #expect(refused.contains("status: SERVFAIL"), "\(refused)")
        #expect(.now - start < .seconds(3), "nobody listens there, and the kernel says so")
      }
      // Somebody who listens and says nothing.
      let silent = try DatagramSocket(in: dns.resolver.pod, port: 53)
      let start = ContinuousClock.now
      let unanswered = try dns.dig("+notcp", "www.example.com", "A")
      #expect(unanswered.contains("status: SERVFAIL"), "\(unanswered)")
      #expect(.now - start > .milliseconds(3500))
      #expect(.now - start < .seconds(8))
      #expect(try silent.receiveAll().count == 2, "each round asks once")
      #expect(try dns.answers("web", "A") == ["10.96.0.1"], "what the mesh knows is still answered")
      #expect(try dns.mesh.left.ztunnel.waitForLine("\tdns\t", "forwarding failed (no server answered") != nil)
    }
  }

  @Test("goes on being answered after packets that are none, and slow clients are let go")
  func hostile() async throws {
    try await DNSFixture.with { dns in
      try dns.mesh.add(services: [Self.service("web.demo.svc.cluster.local", vips: ["10.96.0.1"])])
      let server = SocketAddress(try #require(IPAddress(DNSFixture.claimed[.v4] ?? "")), 53)
      let good = Datagrams.query("web", type: 1)
      #expect(try Datagrams.exchange([], with: server, in: dns.client.pod, within: .milliseconds(200)) == nil)
      #expect(
        try Datagrams.exchange([UInt8](good.prefix(11)), with: server, in: dns.client.pod, within: .milliseconds(200))
          == nil)
      var loop = good
      loop.replaceSubrange(12..<14, with: [0xc0, 12])
      #expect(
        try Datagrams.exchange(loop, with: server, in: dns.client.pod)
          == [4, 0xd2, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0], "FORMERR")

      // A length that is never followed by so much; and several requests in one segment, each answered in turn.
      let slow = try TCPClient(in: dns.client.pod).connect(to: server)
      try slow.send([0xff, 0xff, 1, 2, 3])
      let quick = try TCPClient(in: dns.client.pod).connect(to: server)
      let framed = [0, UInt8(good.count)] + good
      try quick.send(framed + framed + framed)
      try quick.finishSending()
      let replies = try quick.receiveToEnd(timeout: .seconds(5))
      let reply = try #require(try Datagrams.exchange(good, with: server, in: dns.client.pod))
      #expect([UInt8](replies) == (0..<3).flatMap { _ in [0, UInt8(reply.count)] + reply })
      let start = ContinuousClock.now
      #expect(try slow.end(within: .seconds(10)) != .none)
      #expect(.now - start < .seconds(7))
      #expect(try dns.answers("web", "A") == ["10.96.0.1"])
    }
  }
}
