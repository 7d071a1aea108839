import Foundation
import Linux
import Testing
import Vocabulary

@testable import Redirection

/// A host with a pod behind a veth.
private final class Host {
  let wire: Wire
  var host: TestNamespace { wire.peer }
  var probes: HostProbes {
    HostProbes(RedirectionSettings(), host: host.namespace, lockPath: host.lockPath, lockTimeout: .seconds(10))
  }

  init() throws { wire = try Wire() }

  func members(_ family: Int) throws -> [String] {
    try host.run("ipset", "list", "istio-inpod-probes-v\(family)").split(separator: "\n").map(String.init)
      .drop { !$0.hasPrefix("Members") }.dropFirst().sorted()
  }
}

private let pod = Wire.podAddress(.v4)
private let podV6 = Wire.podAddress(.v6)

@Suite("The node's side of probes", .ipset, .serialized)
struct HostProbesTests {
  @Test("makes the sets and the rule of the specification, once")
  func install() throws {
    let host = try Host()
    #expect(try host.probes.install() == ["set v4", "nat", "set v6", "ip6 nat"])
    #expect(try host.probes.install() == [])
    #expect(try host.probes.check().isEmpty)
    for (tool, family, source) in [
      ("iptables", 4, "169.254.7.127"), ("ip6tables", 6, "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"),
    ] {
      let rules = try host.host.saved(tool).split(separator: "\n").filter { $0.hasPrefix("-A") }
      #expect(
        rules == [
          "-A POSTROUTING -j ISTIO_POSTRT",
          "-A ISTIO_POSTRT -p tcp -m owner --socket-exists -m set --match-set istio-inpod-probes-v\(family) dst "
            + "-j SNAT --to-source \(source)",
        ])
      let header = try host.host.run("ipset", "list", "istio-inpod-probes-v\(family)")
      #expect(header.contains("Type: hash:ip\n"))
      #expect(header.contains("maxelem 65536 comment"))
    }
    #expect(try host.probes.uninstall() == ["nat", "set v4", "ip6 nat", "set v6"])
    #expect(try host.host.saved() + host.host.saved("ip6tables") == "")
    #expect(try host.host.run("ipset", "list", "-n") == "")
    #expect(try host.probes.uninstall() == [])
  }

  @Test("takes over the sets and rule that the reference's own tools made, without a write")
  func takeover() throws {
    let host = try Host()
    for (family, tool, source) in [
      ("inet", "iptables-legacy", "169.254.7.127"),
      ("inet6", "ip6tables-legacy", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"),
    ] {
      let name = "istio-inpod-probes-v\(family == "inet" ? 4 : 6)"
      try host.host.run("ipset", "create", name, "hash:ip", "family", family, "comment")
      try host.host.run(tool, "-t", "nat", "-N", "ISTIO_POSTRT")
      try host.host.run(tool, "-t", "nat", "-I", "POSTROUTING", "-j", "ISTIO_POSTRT")
      try host.host.run(
        tool, "-t", "nat", "-A", "ISTIO_POSTRT", "-p", "tcp", "-m", "owner", "--socket-exists", "-m", "set",
        "--match-set", name, "dst", "-j", "SNAT", "--to-source", source)
    }
    try host.host.run("ipset", "add", "istio-inpod-probes-v4", "10.77.0.1", "comment", "pod-1")
    #expect(try host.probes.install() == [])
    #expect(try host.probes.members() == [HostProbes.Member(address: pod, owner: "pod-1")], "nothing was flushed")
  }

  @Test("puts a pod's addresses in with its uid, and takes out only what has its uid")
  func members() throws {
    let host = try Host()
    _ = try host.probes.install()
    #expect(try host.probes.exempt([pod, podV6], of: "uid-1"))
    #expect(try !host.probes.exempt([pod, podV6], of: "uid-1"), "they are there already")
    #expect(try host.members(4) == ["10.77.0.1 comment \"uid-1\""])
    #expect(try host.members(6) == ["fd77::1 comment \"uid-1\""])
    // The next pod has the address before the last one is gone.
    #expect(try host.probes.exempt([pod], of: "uid-2"))
    #expect(try host.members(4) == ["10.77.0.1 comment \"uid-2\""])
    #expect(try host.probes.exempt([], of: "uid-1"), "the v6 address is still the old one's")
    #expect(try host.members(4) == ["10.77.0.1 comment \"uid-2\""])
    #expect(try host.members(6) == [])
    #expect(try host.probes.exempt([.v4(0x0a4d_0009)], of: "uid-2"), "its address has changed")
    #expect(try host.members(4) == ["10.77.0.9 comment \"uid-2\""])
  }

  @Test("an IPv4-mapped address is the IPv4 address")
  func mapped() throws {
    let host = try Host()
    _ = try host.probes.install()
    _ = try host.probes.exempt([.v6(0, 0xffff_0a4d_0001)], of: "uid-1")
    #expect(try host.members(4) == ["10.77.0.1 comment \"uid-1\""])
  }

  @Test("prunes what belongs to nobody, and leaves what has no owner to whoever put it there")
  func prune() throws {
    let host = try Host()
    _ = try host.probes.install()
    _ = try host.probes.exempt([pod], of: "uid-1")
    _ = try host.probes.exempt([.v4(0x0a4d_0009)], of: "uid-2")
    try host.host.run("ipset", "add", "istio-inpod-probes-v4", "192.0.2.1")
    #expect(try host.probes.keepOnly(["uid-1"]) == [.init(address: .v4(0x0a4d_0009), owner: "uid-2")])
    #expect(try host.members(4) == ["10.77.0.1 comment \"uid-1\"", "192.0.2.1"])
  }

  @Test(
    "gives what the node's processes send to the pod the probe address, and nothing else",
    arguments: [.v4, .v6] as [IPAddress.Family])
  func packets(family: IPAddress.Family) throws {
    let host = try Host()
    _ = try host.probes.install()
    try host.wire.apply()
    let application = try TestSocket.listening(in: host.wire.pod, on: SocketAddress(.any(family), 8080))
    let proxy = try TestSocket.listening(in: host.wire.pod, on: SocketAddress(.any(family), 15006))
    let address = SocketAddress(Wire.podAddress(family), 8080)
    let before = try TestSocket.connected(in: host.host, to: address)
    #expect(before != nil)
    #expect(try proxy.accepted()?.peer?.ip == Wire.peerAddress(family), "a pod that is in no set is captured")
    _ = try host.probes.exempt([address.ip], of: "uid-1")
    let probe = try TestSocket.connected(in: host.host, to: address)
    #expect(probe != nil)
    #expect(try application.accepted()?.peer?.ip == Wire.probeAddress(family))
  }

  @Test("repairs a rule that was moved or changed, and leaves others' rules and chains of the mesh's prefix alone")
  func repair() throws {
    let host = try Host()
    _ = try host.probes.install()
    try host.host.run("iptables-legacy", "-t", "nat", "-I", "POSTROUTING", "-s", "10.0.0.0/8", "-j", "MASQUERADE")
    try host.host.run("iptables-legacy", "-t", "nat", "-N", "ISTIO_REDIRECT")
    try host.host.run("iptables-legacy", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-j", "ISTIO_REDIRECT")
    #expect(try host.probes.check().map(\.subject) == ["nat POSTROUTING"])
    #expect(try host.probes.install() == ["nat"])
    let rules = try host.host.saved().split(separator: "\n").filter { $0.hasPrefix("-A") }
    #expect(
      rules.filter { !$0.hasPrefix("-A ISTIO_POSTRT") } == [
        "-A OUTPUT -p tcp -j ISTIO_REDIRECT", "-A POSTROUTING -j ISTIO_POSTRT",
        "-A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE",
      ])
  }

  @Test("refuses a set of the same name that is something else, by its name")
  func otherKind() throws {
    let host = try Host()
    try host.host.run("ipset", "create", "istio-inpod-probes-v4", "hash:net")
    #expect(throws: RedirectionError.setOfOtherKind(name: "istio-inpod-probes-v4")) { try host.probes.install() }
    try host.host.run("ipset", "destroy", "istio-inpod-probes-v4")
    try host.host.run("ipset", "create", "istio-inpod-probes-v4", "hash:ip")
    #expect(throws: RedirectionError.self) {
      _ = try host.probes.install()
      _ = try host.probes.exempt([pod], of: "uid-1")
    }
  }
}

@Suite("What the kernel says about sets")
struct AddressSetTests {
  private let set = AddressSet(family: .v4)

  private func list(_ attributes: [UInt8]) -> NetlinkMessage {
    NetlinkMessage(kind: 6 << 8 | 7, flags: 0, sequence: 1, payload: [2, 0, 0, 0] + attributes)
  }

  private static let element = NetlinkAttribute.nest(
    7,
    NetlinkAttribute.nest(1, NetlinkAttribute.networkOrder(1, [10, 0, 0, 1]))
      + NetlinkAttribute.text(26, Array("uid".utf8)))

  @Test("becomes members with their owners")
  func reading() throws {
    #expect(
      try set.members(list(NetlinkAttribute.nest(8, Self.element))) == [
        .init(address: .v4(0x0a00_0001), owner: "uid")
      ])
    #expect(try set.members(list([])) == [])
  }

  @Test("is refused when it is cut short anywhere")
  func cut() {
    let whole = NetlinkAttribute.nest(8, Self.element)
    for length in 5..<whole.count - 1 {
      #expect(throws: RedirectionError.self, "\(length) bytes") { try set.members(list(Array(whole.prefix(length)))) }
    }
  }

  @Test("is never a member of another family, whatever byte is changed")
  func changed() {
    let whole = NetlinkAttribute.nest(8, Self.element)
    for place in whole.indices {
      for value in [0, 1, 2, 4, 0x7f, 0xff] as [UInt8] {
        var bytes = whole
        bytes[place] = value
        for member in (try? set.members(list(bytes))) ?? [] { #expect(member.address.family == .v4) }
      }
    }
  }

  @Test(
    "about revision and index is refused without them",
    arguments: [
      [], [2, 0, 0, 0], [2, 0, 0, 0, 3, 0, 4, 0], [2, 0, 0, 0, 4, 0, 4, 0], [2, 0, 0, 0, 5, 0, 11, 0, 1, 0, 0, 0],
    ] as [[UInt8]])
  func answers(payload: [UInt8]) {
    let answer = NetlinkMessage(kind: 6 << 8 | 13, flags: 0, sequence: 1, payload: payload)
    #expect(throws: RedirectionError.self) { try AddressSet.revision(answer) }
    #expect(throws: RedirectionError.self) { try AddressSet.index(answer) }
  }
}

extension Trait where Self == ConditionTrait {
  static var ipset: ConditionTrait {
    .enabled(
      if: geteuid() == 0
        && ["ip", "iptables-legacy-save", "ipset"].allSatisfy { tool in
          ["/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"].contains { access($0 + tool, X_OK) == 0 }
        },
      "needs root, iproute2, iptables-legacy and ipset")
  }
}
