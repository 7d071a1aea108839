import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

@Suite("Bytes through the mesh", .requires(.root, .command("ip"), .command("ss")), .timeLimit(.minutes(2)))
struct DataPathTests {
  @Test("reach an endpoint of the service whose address was dialled", arguments: [IPAddress.Family.v4, .v6])
  func service(family: IPAddress.Family) async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let vip = try #require(IPAddress(family == .v4 ? "10.96.0.10" : "fd96::10"))
      try mesh.service("web", vip: "\(vip)", target: 8080, [server])
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      do {
        let connection = try TCPClient(in: client.pod).connect(to: SocketAddress(vip, 80))
        #expect(try connection.exchange("hello") == "hello")
      }
      #expect(echo.peers.map(\.ip) == [client.pod.address(family)])
      let line = try #require(try mesh.left.ztunnel.waitForLine("connection complete"))
      #expect(line.contains("dst.service=\"web.demo.svc.cluster.local\""))
      #expect(line.contains("dst.hbone_addr=\(server.address(family, port: 8080))"))
    }
  }

  @Test("of many streams at once are spread over the workers, not left to the one that the kernel woke")
  func spread() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let idle = try watched(by: mesh.left.ztunnel)
      let connections = try (0..<16).map { _ in try TCPClient(in: client.pod).connect(to: server.address(port: 8080)) }
      for connection in connections { #expect(try connection.exchange("hello") == "hello") }
      let grown = try watched(by: mesh.left.ztunnel).compactMap { epoll, count in
        idle[epoll].flatMap { count > $0 ? count - $0 : nil }
      }
      // Each worker watches its connections and one tunnel.
      #expect(grown.count == 2 && grown.allSatisfy { $0 >= 7 }, "\(grown)")
    }
  }

  /// How many descriptors each of a process's epolls watches, by the epoll's own number.
  private func watched(by process: RunningProcess) throws -> [String: Int] {
    let directory = "/proc/\(process.pid)/fdinfo"
    var counts: [String: Int] = [:]
    for number in try FileManager.default.contentsOfDirectory(atPath: directory) {
      // One that was closed meanwhile is nobody's.
      guard let text = try? String(contentsOfFile: "\(directory)/\(number)", encoding: .utf8) else { continue }
      let count = text.split(separator: "\n").count { $0.hasPrefix("tfd:") }
      if count > 0 { counts[number] = count }
    }
    return counts
  }

  @Test("still come back after the client has ended its side")
  func clientEndsFirst() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let sink = try TCPServer(in: server.pod, port: 8080, .sink)
      defer { sink.stop() }
      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      try connection.sendPattern(1_000_000)
      try connection.finishSending()
      #expect(try connection.receiveTextToEnd() == "bytes=1000000 intact=true")
    }
  }

  @Test("still go out after the server has ended its side")
  func serverEndsFirst() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let listener = try TCPListener(in: server.pod, port: 8080)
      let near = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      let far = try listener.accept()
      try far.send("that is all")
      try far.finishSending()
      #expect(try near.receiveTextToEnd() == "that is all")
      try near.send("but not from here")
      try near.finishSending()
      #expect(try far.receiveTextToEnd() == "but not from here")
      #expect(try mesh.left.ztunnel.waitForLine("connection complete", "bytes_sent=17 bytes_recv=11") != nil)
      #expect(try mesh.right.ztunnel.waitForLine("connection complete", "bytes_sent=11 bytes_recv=17") != nil)
    }
  }

  @Test("end with a reset for the server when the client resets")
  func clientResets() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let listener = try TCPListener(in: server.pod, port: 8080)
      var near: TCPConnection? = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      let far = try listener.accept()
      try near?.send("x")
      #expect(try far.receive(1).count == 1)
      near?.resetOnClose()
      near = nil
      #expect(try far.end() == .reset)
    }
  }

  @Test("end with a reset for the client when the server resets")
  func serverResets() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let resetting = try TCPServer(in: server.pod, port: 8080, .reset)
      defer { resetting.stop() }
      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      try connection.send("x")
      #expect(try connection.end() == .reset)
    }
  }

  @Test("arrive whole and in order, 100 MB each way at once")
  func bulk() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      try connection.echoPattern(100 << 20, timeout: .seconds(60))
    }
  }

  @Test("of 500 connections at once stay apart, a hundred connections to a tunnel")
  func manyConnections() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let dialer = TCPClient(in: client.pod)
      let connections = try (0..<500).map { _ in try dialer.connect(to: server.address(port: 8080)) }
      for (index, connection) in connections.enumerated() { try connection.send("request \(index)") }
      for (index, connection) in connections.enumerated() {
        let text = "request \(index)"
        #expect(try String(decoding: connection.receive(text.utf8.count), as: UTF8.self) == text)
      }
      #expect(echo.peers.count == 500)
      // Two workers fill tunnels of their own: one of each pair may be part full.
      let tunnels = try client.pod.establishedConnections("dport = :15008")
      #expect((5...6).contains(tunnels))
      for connection in connections { try connection.finishSending() }
      for connection in connections { #expect(try connection.receiveToEnd().isEmpty) }
    }
  }

  @Test(
    "of a client outside of the mesh are passed in as they are, from its own address",
    arguments: [IPAddress.Family.v4, .v6])
  func plaintextIn(family: IPAddress.Family) async throws {
    try await MeshFixture.with { mesh in
      let outside = try await mesh.pod("outside", on: mesh.left, inMesh: false)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      do {
        let connection = try TCPClient(in: outside.pod).connect(to: server.address(family, port: 8080))
        #expect(try connection.exchange("hello") == "hello")
        try connection.finishSending()
        #expect(try connection.receiveToEnd().isEmpty)
      }
      #expect(echo.peers.map(\.ip) == [outside.pod.address(family)])
      let line = try #require(try mesh.right.ztunnel.waitForLine("connection complete"))
      #expect(line.contains("direction=\"inbound\" bytes_sent=5 bytes_recv=5"))
      #expect(!line.contains("src.identity"), "nobody has proven anything")
    }
  }

  @Test(
    "from a plain client find their own way whatever port its other connections have",
    arguments: [IPAddress.Family.v4, .v6])
  func plaintextPorts(family: IPAddress.Family) async throws {
    try await MeshFixture.with { mesh in
      let outside = try await mesh.pod("outside", on: mesh.left, inMesh: false)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      // The kernel has but these to choose from for a connection that the proxy opens with the client's address.
      try server.pod.mustRun(["sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40003"])
      let connections = try (40_000...40_003).map { port in
        try TCPClient(in: outside.pod).connect(
          to: server.address(family, port: 8080), from: outside.address(family, port: UInt16(port)))
      }
      for connection in connections { #expect(try connection.exchange("hello") == "hello") }
      #expect(Set(echo.peers.map(\.ip)) == [outside.pod.address(family)])
    }
  }

  @Test(
    "to hosts outside of the mesh leave as they are, whether the mesh knows the host or not",
    arguments: [true, false], [IPAddress.Family.v4, .v6])
  func plaintextOut(isKnown: Bool, family: IPAddress.Family) async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let outside =
        isKnown
        ? try await mesh.pod("outside", on: mesh.right, inMesh: false).pod : try mesh.right.node.pod("outside")
      let echo = try TCPServer(in: outside, port: 8080, .echo)
      defer { echo.stop() }
      do {
        let connection = try TCPClient(in: client.pod).connect(to: SocketAddress(outside.address(family), 8080))
        #expect(try connection.exchange("hello") == "hello")
      }
      #expect(echo.peers.map(\.ip) == [client.pod.address(family)])
      let line = try #require(try mesh.left.ztunnel.waitForLine("connection complete"))
      #expect(line.contains("dst.addr=\(SocketAddress(outside.address(family), 8080))"))
      #expect(line.contains("direction=\"outbound\" bytes_sent=5 bytes_recv=5"))
    }
  }

  @Test("of a bulk transfer in plaintext are whole and in order, in and out")
  func plaintextBulk() async throws {
    try await MeshFixture.with { mesh in
      let inside = try await mesh.pod("inside", on: mesh.left)
      let outside = try await mesh.pod("outside", on: mesh.right, inMesh: false)
      for (client, server) in [(inside, outside), (outside, inside)] {
        let echo = try TCPServer(in: server.pod, port: 8080, .echo)
        defer { echo.stop() }
        let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
        try connection.echoPattern(64 << 20)
        try connection.finishSending()
        #expect(try connection.receiveToEnd().isEmpty)
      }
      let bytes = 64 << 20
      #expect(try mesh.left.ztunnel.waitForLine("outbound", "bytes_sent=\(bytes) bytes_recv=\(bytes)") != nil)
      #expect(try mesh.left.ztunnel.waitForLine("inbound", "bytes_sent=\(bytes) bytes_recv=\(bytes)") != nil)
    }
  }

  @Test("of a plaintext connection half ended keep flowing the other way, and a reset stays a reset")
  func plaintextEnds() async throws {
    try await MeshFixture.with { mesh in
      let outside = try await mesh.pod("outside", on: mesh.left, inMesh: false)
      let server = try await mesh.pod("server", on: mesh.right)
      let listener = try TCPListener(in: server.pod, port: 8080)
      let dialer = TCPClient(in: outside.pod)

      let halves = (try dialer.connect(to: server.address(port: 8080)), try listener.accept())
      try halves.1.finishSending()
      #expect(try halves.0.receiveToEnd().isEmpty)
      try halves.0.send("still here")
      try halves.0.finishSending()
      #expect(try halves.1.receiveTextToEnd() == "still here")

      var near: TCPConnection? = try dialer.connect(to: server.address(port: 8080))
      let far = try listener.accept()
      near?.resetOnClose()
      near = nil
      #expect(try far.end() == .reset)
    }
  }

  @Test("of a pod to itself arrive, by its own address and through its own service")
  func selfCall() async throws {
    try await MeshFixture.with { mesh in
      let pod = try await mesh.pod("lonely", on: mesh.left)
      try mesh.service("self", vip: "10.96.0.10", target: 8080, [pod])
      let echo = try TCPServer(in: pod.pod, port: 8080, .echo)
      defer { echo.stop() }
      let vip = try #require(IPAddress("10.96.0.10"))
      let addresses = [
        pod.address(.v4, port: 8080), pod.address(.v6, port: 8080), SocketAddress(.loopback(.v4), 8080),
        SocketAddress(vip, 80),
      ]
      for address in addresses {
        let connection = try TCPClient(in: pod.pod).connect(to: address)
        #expect(try connection.exchange("me") == "me", "\(address)")
        try connection.finishSending()
        #expect(try connection.receiveToEnd().isEmpty, "\(address)")
      }
      #expect(try mesh.left.ztunnel.waitForLine("connection complete", "inbound", pod.identity) != nil)
    }
  }

  @Test("between two pods of one node are tunnelled, too")
  func sameNode() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.left)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      do {
        let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
        #expect(try connection.exchange("hello") == "hello")
      }
      #expect(echo.peers.map(\.ip) == [client.pod.ipv4])
      #expect(
        try mesh.left.ztunnel.waitForLine("connection complete", "inbound", "src.identity=\"\(client.identity)\"")
          != nil)
    }
  }

  @Test("are seen on the wire only as tunnels on port 15008, never in the clear", .requires(.command("tcpdump")))
  func wire() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let capture = mesh.directory + "/wire.pcap"
      let tcpdump = try mesh.left.node.spawn(["tcpdump", "-i", "eth0", "-U", "-s", "0", "-Z", "root", "-w", capture])
      #expect(tcpdump.waitForLine("listening on") != nil)
      let marker = "a very recognisable secret"
      let bytes = { (try? Data(contentsOf: URL(fileURLWithPath: capture))) ?? Data() }
      for family in [IPAddress.Family.v4, .v6] {
        let connection = try TCPClient(in: client.pod).connect(to: server.address(family, port: 8080))
        for _ in 0..<20 { #expect(try connection.exchange(marker) == marker) }
      }
      // Something that is in the clear shows that the capture would have had the marker.
      let stranger = try mesh.right.node.pod("stranger")
      let open = try TCPServer(in: stranger, port: 8080, .echo)
      defer { open.stop() }
      #expect(
        try TCPClient(in: client.pod).connect(to: SocketAddress(stranger.ipv4, 8080)).exchange("clear") == "clear")
      #expect(eventually(within: .seconds(10)) { bytes().range(of: Data("clear".utf8)) != nil })
      #expect(tcpdump.terminate() == 0)
      #expect(bytes().range(of: Data(marker.utf8)) == nil)
      let filter = "tcp and not port 15008 and not host \(stranger.ipv4)"
      #expect(try Command.mustRun(["tcpdump", "-n", "-r", capture, filter]).isEmpty)
      #expect(try !Command.mustRun(["tcpdump", "-n", "-r", capture, "tcp and port 15008"]).isEmpty)
    }
  }
}
