import TestSupport
import Testing
import Vocabulary

@Suite("A client of the pod's SOCKS5 port", .requires(.root, .command("ip")))
struct SocksTests {
  private static let port = SocketAddress(.loopback(.v4), 15080)
  private static let success: [UInt8] = [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]

  private static func request(_ address: SocketAddress) -> [UInt8] {
    [5, 1, 0, address.ip.family == .v4 ? 1 : 4] + address.ip.bytes
      + [UInt8(address.port >> 8), UInt8(address.port & 0xff)]
  }

  private static func request(_ name: String, _ port: UInt16) -> [UInt8] {
    [5, 1, 0, 3, UInt8(name.utf8.count)] + Array(name.utf8) + [UInt8(port >> 8), UInt8(port & 0xff)]
  }

  /// Connects and negotiates; the reply's code.
  private func ask(_ client: MeshPod, _ request: [UInt8]) throws -> (connection: TCPConnection, code: UInt8) {
    let connection = try TCPClient(in: client.pod).connect(to: Self.port)
    try connection.send([5, 1, 0] as [UInt8])
    #expect(try connection.receive(2) == [5, 0])
    try connection.send(request)
    let reply = try connection.receive(10, timeout: .seconds(20))
    #expect(reply[0] == 5 && reply.dropFirst(2) == Self.success.dropFirst(2))
    return (connection, reply[1])
  }

  private func withMesh(_ body: (MeshFixture, _ client: MeshPod, _ server: MeshPod) throws -> Void) async throws {
    try await MeshFixture.with(environment: ["UNSTABLE_ENABLE_SOCKS5": "true"]) { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      try mesh.service("shop", vip: "10.96.0.10", target: 8080, [server])
      try body(mesh, client, server)
    }
  }

  @Test("reaches pods by address and services by address and name, through the mesh")
  func delivered() async throws {
    try await withMesh { mesh, client, server in
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let requests = [
        Self.request(server.address(.v4, port: 8080)), Self.request(server.address(.v6, port: 8080)),
        Self.request(SocketAddress(try #require(IPAddress("10.96.0.10")), 80)),
        Self.request("shop.demo.svc.cluster.local", 80), Self.request("SHOP.demo.svc.cluster.local.", 80),
      ]
      for request in requests {
        let (connection, code) = try ask(client, request)
        #expect(code == 0)
        #expect(try connection.exchange("hello") == "hello")
        try connection.finishSending()
        #expect(try connection.receiveToEnd().isEmpty)
      }
      #expect(echo.peers.allSatisfy { $0.ip == client.pod.ipv4 || $0.ip == client.pod.ipv6 })
      let line = try #require(try mesh.left.ztunnel.waitForLine("complete", "outbound"))
      #expect(line.contains("src.identity=\"\(client.identity)\""))
      #expect(line.contains("dst.identity=\"\(server.identity)\""))
    }
  }

  @Test(
    "names hosts as the pod's DNS names them: in short, by wildcards, headless ones, and those of the world outside",
    .requires(.command("dnsmasq"), .command("unshare")))
  func names() async throws {
    try await DNSFixture.with(environment: ["UNSTABLE_ENABLE_SOCKS5": "true"]) { dns in
      let mesh = dns.mesh
      let server = try await mesh.pod("server", on: mesh.right)
      func entry(_ hostname: String, _ rest: String) -> String {
        let uid = server.uid
        return """
          - name: any
            namespace: demo
            hostname: "\(hostname)"
            ports: {80: 8080, 8080: 8080}
            endpoints: {"\(uid)": {workloadUid: "\(uid)", port: {80: 8080, 8080: 8080}}}
            \(rest)
          """
      }
      try mesh.service("shop", vip: "10.96.0.10", target: 8080, [server])
      try mesh.add(services: [
        entry("*.wild.example", "vips: [\"/10.96.0.11\"]"), entry("bare.demo.svc.cluster.local", "vips: []"),
      ])
      let outside = dns.resolver
      try dns.startResolver([
        "--host-record=outside.example.com,\(outside.pod.ipv4)", "--cname=alias.example.com,outside.example.com",
      ])
      let echoes = [
        try TCPServer(in: server.pod, port: 8080, .echo), try TCPServer(in: outside.pod, port: 8080, .echo),
      ]
      defer { for echo in echoes { echo.stop() } }
      for (name, port, place) in [
        ("shop", 80, 0), ("shop.demo", 80, 0), ("shop.demo.svc", 80, 0), ("a.b.wild.example", 80, 0),
        ("bare", 8080, 0), ("outside.example.com", 8080, 1), ("alias.example.com", 8080, 1),
      ] as [(String, UInt16, Int)] {
        let before = echoes[place].peers.count
        let (connection, code) = try ask(dns.client, Self.request(name, port))
        #expect(code == 0, "\(name)")
        #expect(try connection.exchange("hello") == "hello", "\(name)")
        #expect(echoes[place].peers.count == before + 1, "\(name)")
      }
      let (_, code) = try ask(dns.client, Self.request("nowhere.example.com", 80))
      #expect(code == 4)
      #expect(try mesh.left.ztunnel.waitForLine("SOCKS_UNKNOWN_NAME", "nowhere.example.com") != nil)
    }
  }

  @Test("may send everything at once: what follows the request reaches the application")
  func eager() async throws {
    try await withMesh { _, client, server in
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let connection = try TCPClient(in: client.pod).connect(to: Self.port)
      try connection.send([5, 1, 0] + Self.request(server.address(port: 8080)) + Array("early".utf8))
      try connection.finishSending()
      let answer = try connection.receiveToEnd()
      #expect(answer == [5, 0] + Self.success + Array("early".utf8))
    }
  }

  @Test("is told of failure instead of success, with what is known of it")
  func failures() async throws {
    try await withMesh { mesh, client, server in
      let outside = try #require(IPAddress("10.1.0.1"))
      let mapped = [UInt8](repeating: 0, count: 10) + [0xff, 0xff, 127, 0, 0, 1]
      let cases: [(String, [UInt8], UInt8)] = [
        ("an application that is away", Self.request(server.address(port: 9999)), 1),
        ("nobody at an address outside", Self.request(SocketAddress(outside, 9999)), 5),
        ("a name nobody has", Self.request("nowhere.example", 80), 4),
        ("a port no service has", Self.request("shop.demo.svc.cluster.local", 81), 4),
        ("the capture port", Self.request(SocketAddress(.loopback(.v4), 15001)), 2),
        ("itself", Self.request(Self.port), 2),
        ("itself in IPv6 clothes", [5, 1, 0, 4] + mapped + [0x3a, 0xe8], 2),
        ("BIND", [5, 2, 0, 1, 10, 0, 0, 1, 0, 80], 7),
      ]
      for (what, request, expected) in cases {
        let (connection, code) = try ask(client, request)
        #expect(code == expected, "\(what)")
        #expect(try connection.end() != .none, "\(what): closed after the reply")
      }
      // A pod's own capture port by the pod's address: dialled, recognised, closed.
      let (connection, _) = try ask(client, Self.request(client.address(port: 15001)))
      #expect(try connection.end() != .none)
      #expect(try mesh.left.ztunnel.lines.count < 200, "nothing goes round")
    }
  }

  @Test("that is slow, or speaks something else, is closed, and others are served meanwhile")
  func hostile() async throws {
    try await withMesh { mesh, client, server in
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let slow = try TCPClient(in: client.pod).connect(to: Self.port)
      try slow.send([5] as [UInt8])
      let web = try TCPClient(in: client.pod).connect(to: Self.port)
      try web.send("GET / HTTP/1.1\r\n\r\n")
      #expect(try web.end() != .none)
      let (connection, code) = try ask(client, Self.request(server.address(port: 8080)))
      #expect(code == 0)
      #expect(try connection.exchange("hello") == "hello")
      #expect(try slow.end(within: .seconds(15)) != .none)
      #expect(try mesh.left.ztunnel.waitForLine("SOCKS_TIMEOUT") != nil)
      #expect(try mesh.left.ztunnel.waitForLine("SOCKS_VERSION") != nil)
    }
  }

  @Test("finds the port on loopback only, and not at all unless asked for")
  func listening() async throws {
    try await withMesh { _, client, _ in
      #expect(throws: (any Error).self) {
        try TCPClient(in: client.pod.node).connect(to: client.address(port: 15080)).exchange("hello")
      }
      let listeners = try client.pod.mustRun(["ss", "-Htln", "sport = :15080"])
      #expect(listeners.contains("127.0.0.1:15080"))
    }
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      #expect(try !client.pod.listeningPorts.contains(15080))
    }
  }
}
