import Foundation
import Linux
import Testing
import Vocabulary

@testable import Redirection

private let families: [IPAddress.Family] = [.v4, .v6]
private let proxyMark: UInt32 = 0x539

/// Rules of another agent of the mesh that wrote them through nftables.
@Suite("Taking over from an agent that writes nftables", .nftables, .serialized)
struct TakeoverTests {
  private let settings = RedirectionSettings(dnsCapture: true, countsEscapes: true)
  private let mode = SpecificationListings.Mode(dns: true)

  /// What `iptables-nft` makes of the specification's listings, among others' rules.
  private func enrol(_ pod: TestNamespace, with tool: String = "nft") throws {
    try pod.run("iptables-\(tool)-restore", input: SpecificationListings.tables(mode, .v4))
    try pod.run("ip6tables-\(tool)-restore", input: SpecificationListings.tables(mode, .v6))
    for family in ["-4", "-6"] {
      try pod.ip(family, "route", "add", "local", "default", "dev", "lo", "table", "100")
      try pod.ip(family, "rule", "add", "pref", "32764", "fwmark", "0x111/0xfff", "lookup", "100")
    }
  }

  private func nftables(_ pod: TestNamespace) throws -> String { try pod.run("nft", "list", "ruleset") }

  @Test("finds its chains, and removes all of them, in both families")
  func sweep() throws {
    let pod = try TestNamespace()
    try enrol(pod)
    let before = try pod.redirector.prove(settings, in: pod.namespace).deviations
    #expect(before.contains { $0.subject == "nftables ip nat ISTIO_OUTPUT" })
    #expect(before.contains { $0.subject == "nftables ip6 raw ISTIO_PRERT" })
    #expect(try pod.redirector.apply(settings, in: pod.namespace).changed.last == "nftables")
    #expect(try !nftables(pod).contains("ISTIO"))
    #expect(try pod.redirector.prove(settings, in: pod.namespace).deviations.isEmpty)
    #expect(try pod.redirector.apply(settings, in: pod.namespace) == RedirectionReport())
  }

  @Test("removes the three tables of its native backend, and no other")
  func native() throws {
    let pod = try TestNamespace()
    let tables = ["istio-ambient-nat", "istio-ambient-mangle", "istio-ambient-raw"]
    let text = (tables + ["istio-ambient-other", "cni"]).map { name in
      "table inet \(name) { chain output { type filter hook output priority 0; counter accept; }; chain istio-output { counter; }; }\n"
    }.joined()
    try pod.run("nft", "-f", "-", input: text + "table ip istio-ambient-nat { chain x { counter; }; }\n")
    #expect(
      try pod.redirector.prove(settings, in: pod.namespace).deviations.contains {
        $0.subject == "nftables inet istio-ambient-mangle"
      })
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    let left = try pod.run("nft", "list", "tables").split(separator: "\n").sorted()
    #expect(left == ["table inet cni", "table inet istio-ambient-other", "table ip istio-ambient-nat"])
  }

  @Test("leaves every rule, chain and set of others as it is, to the byte")
  func others() throws {
    let pod = try TestNamespace()
    let foreign = """
      table ip filter {
        set blocked { type ipv4_addr; elements = { 192.0.2.1 }; }
        chain INPUT { type filter hook input priority filter; policy accept; ip saddr @blocked drop; }
        chain USER { ip daddr 192.0.2.7 accept; }
        chain OUTPUT { type filter hook output priority filter; policy accept; jump USER; }
      }
      table inet own { chain ISTIO_NOT_OURS { counter; }; chain c { jump ISTIO_NOT_OURS; }; }
      table bridge nat { chain ISTIO_BRIDGE { counter; }; }

      """
    try pod.run("nft", "-f", "-", input: foreign)
    try pod.run("iptables-nft", "-t", "nat", "-A", "POSTROUTING", "-s", "10.0.0.0/8", "-j", "MASQUERADE")
    let before = try nftables(pod)
    try pod.run("iptables-nft", "-t", "nat", "-N", "ISTIO_OUTPUT")
    try pod.run("iptables-nft", "-t", "nat", "-A", "ISTIO_OUTPUT", "-p", "tcp", "-j", "ACCEPT")
    try pod.run("iptables-nft", "-t", "nat", "-I", "POSTROUTING", "-p", "tcp", "-j", "ISTIO_OUTPUT")
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    #expect(try nftables(pod) == before)
  }

  @Test(
    "removes nothing before its own rules are in force: there is no packet that is not captured", arguments: families)
  func order(family: IPAddress.Family) throws {
    let wire = try Wire()
    try enrol(wire.pod)
    // A table that cannot be written: ours do not come into force, so theirs must stay.
    let rules = Redirector(lockPath: "/proc/no/such/lock")
    #expect(throws: RedirectionError.self) { try rules.apply(settings, in: wire.pod.namespace) }
    #expect(try nftables(wire.pod).contains("ISTIO_OUTPUT"))
    let proxy = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15001))
    #expect(try TestSocket.connected(in: wire.pod, to: SocketAddress(Wire.peerAddress(family), 80)) != nil)
    #expect(try proxy.accepted() != nil)
  }

  @Test("keeps the connections that are open, in both directions, behind a fence and after it", arguments: families)
  func liveConnections(family: IPAddress.Family) throws {
    let wire = try Wire()
    try enrol(wire.pod)
    let outbound = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15001), mark: proxyMark)
    let inbound = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 15006), mark: proxyMark)
    let application = try TestSocket.listening(in: wire.pod, on: SocketAddress(.any(family), 8080))
    let server = try TestSocket.listening(in: wire.peer, on: SocketAddress(.any(family), 80))

    // The application's way out: captured, and ztunnel's own connection behind it.
    let captured = try TestSocket.connected(in: wire.pod, to: SocketAddress(Wire.peerAddress(family), 80))
    let capturedEnd = try outbound.accepted()?.socket
    let upstream = try TestSocket.connected(
      in: wire.pod, to: SocketAddress(Wire.peerAddress(family), 80), mark: proxyMark)
    let upstreamEnd = try server.accepted()?.socket
    // A client's way in: captured, and ztunnel's connection to the application with the client's address.
    let client = try TestSocket.connected(in: wire.peer, to: SocketAddress(Wire.podAddress(family), 8080))
    let clientEnd = try inbound.accepted()?.socket
    let delivered = try TestSocket.connected(
      in: wire.pod, to: SocketAddress(Wire.podAddress(family), 8080), mark: proxyMark,
      from: SocketAddress(Wire.peerAddress(family), 0), borrowed: true)
    let deliveredEnd = try application.accepted()?.socket
    let pairs = [
      (captured, capturedEnd), (upstream, upstreamEnd), (client, clientEnd), (delivered, deliveredEnd),
    ]
    func exchange(_ when: String) {
      for (number, (one, other)) in pairs.enumerated() {
        #expect(one?.send("there") == true, "connection \(number) \(when)")
        #expect(other?.received() == "there", "connection \(number) \(when)")
        #expect(other?.send("back") == true, "connection \(number) \(when)")
        #expect(one?.received() == "back", "connection \(number) \(when)")
      }
    }
    exchange("before")
    _ = try wire.redirector.raiseFence(settings, in: wire.pod.namespace)
    exchange("behind the fence")
    #expect(try wire.redirector.apply(settings, in: wire.pod.namespace).changed.contains("nftables"))
    exchange("after the switch")
    _ = try wire.redirector.lowerFence(in: wire.pod.namespace)
    exchange("after the fence")
    #expect(try wire.redirector.prove(settings, in: wire.pod.namespace).escaped == 0)
  }

  @Test("replaces what it wrote in legacy tables as well", arguments: ["legacy", "nft"])
  func bothFlavours(tool: String) throws {
    let pod = try TestNamespace()
    try enrol(pod, with: tool)
    let other = tool == "nft" ? "legacy" : "nft"
    try pod.run("iptables-\(other)-restore", input: SpecificationListings.tables(mode, .v4))
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    #expect(try !nftables(pod).contains("ISTIO"))
    #expect(try pod.redirector.prove(settings, in: pod.namespace).deviations.isEmpty)
  }

  @Test("the other way round leaves nothing behind", arguments: ["legacy", "nft"])
  func leaving(tool: String) throws {
    let pod = try TestNamespace()
    let before = try pod.everything()
    try enrol(pod, with: tool)
    _ = try pod.redirector.raiseFence(settings, in: pod.namespace)
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    _ = try pod.redirector.remove(from: pod.namespace)
    #expect(try pod.everything() == before)
    #expect(try !nftables(pod).contains("ISTIO"))
  }

  @Test("every chain it writes is one that the reference's own clean-up finds and removes")
  func referenceCleansUp() throws {
    let pod = try TestNamespace()
    _ = try pod.redirector.raiseFence(settings, in: pod.namespace)
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    // Step 4c of redirection.md §7: jumps to ISTIO_* go, then chains of that name, in four tables.
    for command in ["iptables-legacy", "ip6tables-legacy"] {
      for table in ["filter", "nat", "mangle", "raw"] {
        let rules = try pod.run(command, "-t", table, "-S").split(separator: "\n").map(String.init)
        for rule in rules where rule.hasPrefix("-A") && rule.contains("-j ISTIO_") {
          let words = rule.split(separator: " ").map(String.init)
          try Command.run(["ip", "netns", "exec", pod.name, command, "-t", table, "-D"] + words.dropFirst())
        }
        let chains = rules.filter { $0.hasPrefix("-N ISTIO_") }.map { String($0.dropFirst(3)) }
        for step in ["-F", "-X"] { for chain in chains { try pod.run(command, "-t", table, step, chain) } }
      }
    }
    #expect(try pod.saved() + pod.saved("ip6tables") == "")
  }
}

@Suite("What the kernel says about nftables")
struct NFTablesSnapshotTests {
  private func message(_ command: UInt16, _ payload: [UInt8]) -> NetlinkMessage {
    NetlinkMessage(kind: 10 << 8 | command, flags: 0, sequence: 1, payload: payload)
  }

  private static let rule: [UInt8] = {
    let verdict = NetlinkAttribute.nest(
      2, NetlinkAttribute.bytes(1, [0xff, 0xff, 0xff, 0xfd]) + NetlinkAttribute.text(2, Array("ISTIO_OUTPUT".utf8)))
    let expression =
      NetlinkAttribute.text(1, Array("immediate".utf8))
      + NetlinkAttribute.nest(2, NetlinkAttribute.bytes(1, [0, 0, 0, 0]) + NetlinkAttribute.nest(2, verdict))
    return [2, 0, 0, 0] + NetlinkAttribute.text(1, Array("nat".utf8)) + NetlinkAttribute.text(2, Array("OUTPUT".utf8))
      + NetlinkAttribute.bytes(3, [0, 0, 0, 0, 0, 0, 0, 9])
      + NetlinkAttribute.nest(4, NetlinkAttribute.nest(1, expression))
  }()

  @Test("becomes a rule with its place and where it leads")
  func reading() throws {
    var snapshot = NFTablesSnapshot()
    try snapshot.take(message(6, Self.rule), .rule)
    let table = NFTablesSnapshot.Table(family: 2, name: Array("nat".utf8))
    #expect(
      snapshot.rules == [
        .init(chain: .init(table: table, name: "OUTPUT"), handle: 9, destination: "ISTIO_OUTPUT")
      ])
    #expect(snapshot.removals.map(\.command) == [8])
  }

  @Test("is refused or harmless when cut short or changed anywhere")
  func hostile() {
    for length in 0..<Self.rule.count {
      var snapshot = NFTablesSnapshot()
      try? snapshot.take(message(6, Array(Self.rule.prefix(length))), .rule)
      for chain in snapshot.rules.map(\.chain.name) { #expect("OUTPUT".hasPrefix("\(chain)")) }
    }
    for place in Self.rule.indices {
      for value in [0, 1, 4, 0x7f, 0xff] as [UInt8] {
        var bytes = Self.rule
        bytes[place] = value
        for object in NFTablesSnapshot.Object.allCases {
          var snapshot = NFTablesSnapshot()
          try? snapshot.take(message(object.listed, bytes), object)
          #expect(snapshot.tables.count + snapshot.chains.count + snapshot.rules.count <= 1)
        }
      }
    }
  }

  @Test(
    "names nothing to be removed outside the tables of the specification",
    arguments: [
      (1, "nat"), (2, "istio-ambient-nat"), (2, "user"), (5, "nat"), (7, "mangle"), (10, "natx"), (0, "nat"),
    ] as [(UInt8, String)])
  func limits(family: UInt8, table: String) {
    let table = NFTablesSnapshot.Table(family: family, name: Array(table.utf8))
    let chain = NFTablesSnapshot.Chain(table: table, name: "ISTIO_OUTPUT")
    let snapshot = NFTablesSnapshot(
      tables: [table], chains: [chain],
      rules: [.init(chain: .init(table: table, name: "OUTPUT"), handle: 1, destination: "ISTIO_OUTPUT")])
    #expect(snapshot.removals.isEmpty)
    #expect(snapshot.leftovers.isEmpty)
  }
}

extension Trait where Self == ConditionTrait {
  /// The tools with which the reference writes, and one to look.
  static var nftables: ConditionTrait {
    .enabled(
      if: geteuid() == 0
        && ["ip", "iptables-legacy-save", "iptables-nft", "ip6tables-nft", "nft"].allSatisfy { tool in
          ["/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"].contains { access($0 + tool, X_OK) == 0 }
        },
      "needs root, iproute2, iptables (legacy and nft) and nftables")
  }
}
