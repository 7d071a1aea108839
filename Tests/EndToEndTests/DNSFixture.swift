import Foundation
import Linux
import Redirection
import TestSupport
import Testing
import Vocabulary

/// A mesh whose proxies serve DNS, with a pod that is captured and a resolver outside of the mesh to forward to.
struct DNSFixture {
  let mesh: MeshFixture
  /// Captured, DNS too.
  let client: MeshPod
  /// Where queries are forwarded to; nothing listens there until ``startResolver(_:)``.
  let resolver: MeshPod

  /// The first pod of the second node.
  static let resolverAddress = "10.2.0.2"
  /// Where clients believe their resolver to be. There is no such host: whatever is answered is answered by the proxy.
  static let claimed: [IPAddress.Family: String] = [.v4: "10.96.0.10", .v6: "fd00:96::10"]

  /// Runs a mesh for `body`. `servers` and `options` are those of the proxies' `resolv.conf`.
  static func with(
    servers: [String] = [resolverAddress], options: String = "timeout:2 attempts:1",
    environment more: [String: String] = [:], _ body: (DNSFixture) async throws -> Void
  ) async throws {
    let file = "/tmp/ambient-e2e-resolv-\(UUID().uuidString.prefix(8))"
    let lines = servers.map { "nameserver \($0)" } + ["options \(options)", "search nowhere.example", ""]
    try lines.joined(separator: "\n")
      .write(toFile: file, atomically: true, encoding: .utf8)
    defer { try? FileManager.default.removeItem(atPath: file) }
    // A mount namespace of its own, where /etc/resolv.conf is this one.
    let launcher = ["unshare", "--mount", "sh", "-c", "mount --bind \(file) /etc/resolv.conf && exec \"$0\""]
    let environment = ["ISTIO_META_DNS_CAPTURE": "true", "RUST_LOG": "info,dns=debug,ztunnel::state=debug"]
    try await MeshFixture.with(environment: environment.merging(more) { $1 }, launcher: launcher) { mesh in
      let resolver = try await mesh.pod("resolver", on: mesh.right, inMesh: false)
      try #require(resolver.pod.ipv4.description == resolverAddress)
      let client = try await mesh.pod("client", on: mesh.left, enrolled: false)
      try await mesh.left.agent.enrol(client, RedirectionSettings(dnsCapture: true))
      try await body(DNSFixture(mesh: mesh, client: client, resolver: resolver))
    }
  }

  /// Starts dnsmasq with these records, authoritative for what is below `example.com`.
  func startResolver(_ records: [String]) throws { try startResolver(records, in: resolver.pod) }

  /// The same anywhere.
  func startResolver(_ records: [String], in holder: some NamespaceHolder) throws {
    let process = try holder.spawn(
      [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root",
        "--pid-file=", "--log-facility=-", "--log-queries", "--edns-packet-max=1232", "--local=/example.com/",
      ] + records)
    try #require(process.waitForLine(containing: "started") != nil, "\(process.errors)")
  }

  /// What `dig` prints when the client asks its resolver.
  func dig(_ arguments: String..., family: IPAddress.Family = .v4) throws -> String {
    let server = try #require(Self.claimed[family])
    return try client.pod.run(
      ["dig", "@\(server)", "+tries=1", "+timeout=15"] + arguments, timeout: .seconds(20)
    ).output
  }

  /// The answers alone, one a line, sorted.
  func answers(_ arguments: String..., family: IPAddress.Family = .v4) throws -> [String] {
    let server = try #require(Self.claimed[family])
    return try client.pod.mustRun(
      ["dig", "@\(server)", "+tries=1", "+timeout=15", "+short"] + arguments, timeout: .seconds(20)
    ).split(separator: "\n").map(String.init).sorted()
  }
}

/// A UDP socket that a test sends and receives with itself, to act as a client or as a resolver.
struct DatagramSocket {
  let socket: SharedDescriptor

  /// Bound to `port` of every IPv4 address of a place; 0 is any.
  init(in holder: some NamespaceHolder, port: UInt16 = 0) throws {
    socket = try holder.place.namespace.enter { SharedDescriptor(try UDPSocket.make(.v4)) }
    try TCPSocket.bind(socket.raw, .v4, to: SocketAddress(.any(.v4), port))
  }

  func send(_ message: [UInt8], to address: SocketAddress) throws {
    try UDPSocket.send(socket.raw, .v4, message, to: address)
  }

  /// The next datagram; nil when there is none in time.
  func receive(within limit: Duration = .seconds(5)) throws -> (message: [UInt8], sender: SocketAddress)? {
    var entry = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
    guard try system("poll", "", { poll(&entry, 1, CInt(limit / .milliseconds(1))) }) > 0 else { return nil }
    var room = [UInt8](repeating: 0, count: 65_536)
    return try room.withUnsafeMutableBytes { room in
      guard let (count, sender) = try UDPSocket.receive(socket.raw, into: room), let sender else { return nil }
      return ([UInt8](room[..<count]), sender)
    }
  }

  /// Everything that comes until nothing does for a while.
  func receiveAll(until silence: Duration = .milliseconds(500)) throws -> [(message: [UInt8], sender: SocketAddress)] {
    var all: [(message: [UInt8], sender: SocketAddress)] = []
    while let next = try receive(within: silence) { all.append(next) }
    return all
  }
}

/// Raw datagrams, for what `dig` does not send or show.
enum Datagrams {
  /// Sends `message` from inside a place and returns the answer; nil when there is none in time.
  static func exchange(
    _ message: [UInt8], with server: SocketAddress, in holder: some NamespaceHolder,
    within limit: Duration = .seconds(5)
  ) throws -> [UInt8]? {
    let socket = try DatagramSocket(in: holder)
    try socket.send(message, to: server)
    return try socket.receive(within: limit)?.message
  }

  /// A query for a name: id 0x4d2, recursion desired, EDNS with 1232 bytes.
  static func query(_ name: String, type: UInt8, opcode: UInt8 = 0) -> [UInt8] {
    let labels = name.split(separator: ".").flatMap { [UInt8($0.utf8.count)] + Array($0.utf8) }
    return [4, 0xd2, opcode << 3 | 1, 0x20, 0, 1, 0, 0, 0, 0, 0, 1] + labels + [0, 0, type, 0, 1]
      + [0, 0, 41, 4, 0xd0, 0, 0, 0x80, 0, 0, 0]
  }
}
