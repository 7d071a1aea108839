import Foundation
import Linux
import Testing
import Vocabulary

@testable import Redirection

@Suite("Redirecting a namespace", .namespaces)
struct RedirectorTests {
  private typealias Mode = SpecificationListings.Mode

  @Test("makes what the specification lists, in every mode", arguments: SpecificationListings.Mode.all)
  func everyMode(mode: SpecificationListings.Mode) throws {
    let pod = try TestNamespace()
    let report = try pod.redirector.apply(mode.settings, in: pod.namespace)
    #expect(try pod.saved("iptables") == SpecificationListings.tables(mode, .v4))
    #expect(try pod.saved("ip6tables") == SpecificationListings.tables(mode, .v6))
    #expect(
      report.changed
        == (mode.dns ? ["raw"] : []) + ["mangle"] + (mode.dns ? ["ip6 raw"] : []) + [
          "ip6 mangle", "route v4", "rule v4", "route v6", "rule v6", "nat", "ip6 nat",
        ])
    #expect(report.degradations.isEmpty)
  }

  @Test("writes nothing the second time")
  func idempotent() throws {
    let pod = try TestNamespace()
    let settings = Mode(dns: true, interfaces: ["net1"]).settings
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    // Rules that are written again start counting at zero, so the counters tell.
    _ = try TestSocket.connected(in: pod, to: SocketAddress(.loopback(.v4), 9))
    let before = try pod.counted()
    #expect(before.contains { $0.hasSuffix("-A PREROUTING -j ISTIO_PRERT") && !$0.hasPrefix("[0:0]") })
    #expect(try pod.redirector.apply(settings, in: pod.namespace) == RedirectionReport())
    #expect(try pod.counted() == before)
    #expect(try pod.redirector.check(settings, in: pod.namespace).isEmpty)
  }

  @Test("adds routes and rules of both families, once")
  func routes() throws {
    let pod = try TestNamespace()
    _ = try pod.redirector.apply(RedirectionSettings(), in: pod.namespace)
    _ = try pod.redirector.apply(RedirectionSettings(), in: pod.namespace)
    for family in ["-4", "-6"] {
      let rules = try pod.ip(family, "rule").split(separator: "\n").filter { $0.hasPrefix("32764:") }
      #expect(rules == ["32764:\tfrom all fwmark 0x111/0xfff lookup 100"])
    }
    let v4 = try pod.ip("-4", "route", "show", "table", "100").trimmingCharacters(in: .whitespacesAndNewlines)
    #expect(v4 == "local default dev lo scope host")
    let v6 = try pod.ip("-6", "route", "show", "table", "100")
    #expect(v6.hasPrefix("local default dev lo metric 1024"))
  }

  @Test("adds the IPv6 rule when IPv4 has its own already")
  func fromV4Only() throws {
    let pod = try TestNamespace()
    _ = try pod.redirector.apply(RedirectionSettings(ipv6: false), in: pod.namespace)
    #expect(try !pod.ip("-6", "rule").contains("32764"))
    let report = try pod.redirector.apply(RedirectionSettings(), in: pod.namespace)
    #expect(report.changed == ["ip6 mangle", "route v6", "rule v6", "ip6 nat"])
    #expect(try pod.ip("-6", "rule").contains("32764"))
  }

  @Test("takes the IPv6 half out when IPv6 is switched off")
  func toV4Only() throws {
    let pod = try TestNamespace()
    _ = try pod.redirector.apply(RedirectionSettings(dnsCapture: true), in: pod.namespace)
    let settings = RedirectionSettings(dnsCapture: true, ipv6: false)
    #expect(try !pod.redirector.check(settings, in: pod.namespace).isEmpty)
    let report = try pod.redirector.apply(settings, in: pod.namespace)
    #expect(report.changed == ["ip6 nat", "rule v6", "route v6", "ip6 mangle", "ip6 raw"])
    #expect(try pod.saved("ip6tables") == "")
    #expect(try pod.saved("iptables") == SpecificationListings.tables(Mode(dns: true), .v4))
  }

  @Test("accepts what the reference's own tool writes from the listing")
  func interoperability() throws {
    let pod = try TestNamespace()
    let mode = Mode(dns: true, interfaces: ["net1"])
    try pod.run("iptables-legacy-restore", input: SpecificationListings.tables(mode, .v4))
    try pod.run("ip6tables-legacy-restore", input: SpecificationListings.tables(mode, .v6))
    try pod.ip("route", "add", "local", "default", "dev", "lo", "table", "100")
    try pod.ip("-6", "route", "add", "local", "default", "dev", "lo", "table", "100")
    for family in ["-4", "-6"] {
      try pod.ip(family, "rule", "add", "pref", "32764", "fwmark", "0x111/0xfff", "lookup", "100")
    }
    #expect(try pod.redirector.check(mode.settings, in: pod.namespace).map(\.description) == [])
    #expect(try pod.redirector.apply(mode.settings, in: pod.namespace) == RedirectionReport())
  }

  @Test("says what is there in the form it promised")
  func current() throws {
    let pod = try TestNamespace()
    let settings = Mode(dns: true, ingress: true).settings
    #expect(try pod.redirector.current(in: pod.namespace) == "# IPv4\n# IPv6\n")
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    #expect(try pod.redirector.current(in: pod.namespace) == Redirector.listing(settings))
  }

  @Test("follows a change of settings in both directions")
  func changes() throws {
    let pod = try TestNamespace()
    for mode in Mode.all + Mode.all.reversed() {
      _ = try pod.redirector.apply(mode.settings, in: pod.namespace)
      #expect(try pod.saved("iptables") == SpecificationListings.tables(mode, .v4))
      #expect(try pod.saved("ip6tables") == SpecificationListings.tables(mode, .v6))
    }
  }

  @Test("leaves tables alone that it does not need")
  func untouchedTables() throws {
    let pod = try TestNamespace()
    let redirector = pod.redirector
    _ = try redirector.check(RedirectionSettings(dnsCapture: true), in: pod.namespace)
    _ = try redirector.remove(from: pod.namespace)
    #expect(try pod.run("cat", "/proc/thread-self/net/ip_tables_names") == "")
    _ = try redirector.apply(RedirectionSettings(), in: pod.namespace)
    let names = try pod.run("cat", "/proc/thread-self/net/ip_tables_names").split(separator: "\n").sorted()
    #expect(names == ["mangle", "nat"])
  }
}

@Suite("Foreign and broken state", .namespaces)
struct ForeignStateTests {
  private let settings = RedirectionSettings(dnsCapture: true)

  private static let foreignV4 = """
    *mangle
    -A POSTROUTING -p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu
    COMMIT
    *nat
    :USER-CHAIN - [0:0]
    -A PREROUTING -p tcp -m tcp --dport 8080 -j REDIRECT --to-ports 80-90
    -A OUTPUT -m comment --comment "theirs: do not touch" -j USER-CHAIN
    -A POSTROUTING -s 10.0.0.0/8 ! -o lo -j MASQUERADE
    -A USER-CHAIN -d 192.0.2.0/24 -p udp -m multiport --dports 1,2,3 -j RETURN
    COMMIT
    *filter
    :INPUT DROP [0:0]
    -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    -A INPUT -i lo -j ACCEPT
    COMMIT

    """
  private static let foreignV6 = """
    *filter
    -A INPUT -p ipv6-icmp -j ACCEPT
    COMMIT

    """

  private func podWithForeignRules() throws -> TestNamespace {
    let pod = try TestNamespace()
    try pod.run("iptables-legacy-restore", input: Self.foreignV4)
    try pod.run("ip6tables-legacy-restore", input: Self.foreignV6)
    try pod.ip("rule", "add", "pref", "500", "fwmark", "0x7", "lookup", "77")
    try pod.ip("-6", "rule", "add", "pref", "32764", "fwmark", "0x222/0xfff", "lookup", "100")
    try pod.ip("route", "add", "local", "192.0.2.0/24", "dev", "lo", "table", "100")
    return pod
  }

  @Test("of others survives, and removal leaves the namespace as it was")
  func foreignRulesSurvive() throws {
    let pod = try podWithForeignRules()
    let before = try pod.everything()
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    let during = try pod.saved()
    for line in Self.foreignV4.split(separator: "\n") where line.hasPrefix("-A") {
      #expect(during.contains(line), "\(line)")
    }
    let removed = try pod.redirector.remove(from: pod.namespace)
    #expect(
      removed.changed == [
        "nat", "ip6 nat", "rule v4", "route v4", "rule v6", "route v6", "mangle", "ip6 mangle", "raw", "ip6 raw",
      ])
    #expect(try pod.everything() == before)
    #expect(try pod.redirector.remove(from: pod.namespace) == RedirectionReport())
  }

  @Test("of others keeps its counters")
  func counters() throws {
    let pod = try podWithForeignRules()
    try pod.run(
      "iptables-legacy", "-t", "nat", "-A", "OUTPUT", "-c", "12", "3456", "-d", "198.51.100.1", "-j", "ACCEPT")
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    #expect(try pod.run("iptables-legacy-save", "-c").contains("[12:3456] -A OUTPUT -d 198.51.100.1/32 -j ACCEPT"))
  }

  @Test("in the way of the jump is noticed and passed by")
  func foreignAhead() throws {
    let pod = try TestNamespace()
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    try pod.run("iptables-legacy", "-t", "nat", "-I", "OUTPUT", "-p", "tcp", "-j", "ACCEPT")
    let deviations = try pod.redirector.check(settings, in: pod.namespace)
    #expect(deviations.map(\.subject) == ["nat OUTPUT"])
    #expect(try pod.redirector.apply(settings, in: pod.namespace).changed == ["nat"])
    let output = try pod.run("iptables-legacy", "-t", "nat", "-S", "OUTPUT")
    #expect(output == "-P OUTPUT ACCEPT\n-A OUTPUT -j ISTIO_OUTPUT\n-A OUTPUT -p tcp -j ACCEPT\n")
  }

  /// What breaks a namespace, and the table that shows it.
  static let damages: [(String, [String])] = [
    ("nat", ["iptables-legacy -t nat -D OUTPUT -j ISTIO_OUTPUT"]),
    ("nat", ["iptables-legacy -t nat -A OUTPUT -j ISTIO_OUTPUT"]),
    ("mangle", ["iptables-legacy -t mangle -A INPUT -j ISTIO_PRERT"]),
    ("nat", ["iptables-legacy -t nat -R OUTPUT 1 -p tcp -j ISTIO_OUTPUT"]),
    ("nat", ["iptables-legacy -t nat -F ISTIO_OUTPUT"]),
    ("nat", ["iptables-legacy -t nat -D ISTIO_OUTPUT 1", "iptables-legacy -t nat -A ISTIO_OUTPUT -j RETURN"]),
    ("nat", ["iptables-legacy -t nat -I ISTIO_OUTPUT 1 -p tcp -j ACCEPT"]),
    ("nat", ["iptables-legacy -t nat -A ISTIO_OUTPUT -p tcp -j ACCEPT"]),
    ("nat", ["iptables-legacy -t nat -N ISTIO_REDIRECT", "iptables-legacy -t nat -A OUTPUT -j ISTIO_REDIRECT"]),
    ("nat", ["iptables-legacy -t nat -N USERS", "iptables-legacy -t nat -A USERS -g ISTIO_OUTPUT"]),
    ("nat", ["iptables-legacy -t nat -F", "iptables-legacy -t nat -X"]),
    ("mangle", ["iptables-legacy -t mangle -F ISTIO_PRERT"]),
    (
      "mangle",
      ["iptables-legacy -t mangle -R ISTIO_PRERT 1 -m mark --mark 0x539/0xffff -j CONNMARK --set-xmark 0x111/0xfff"]
    ),
    (
      "raw",
      ["iptables-legacy -t raw -R ISTIO_OUTPUT 1 -p udp -m mark --mark 0x539/0xfff -m udp --dport 53 -j CT --zone 2"]
    ),
    ("filter", ["iptables-legacy -N ISTIO_INPUT", "iptables-legacy -I INPUT -j ISTIO_INPUT"]),
    ("ip6 nat", ["ip6tables-legacy -t nat -D PREROUTING 1"]),
    ("ip6 mangle", ["ip6tables-legacy -t mangle -D ISTIO_OUTPUT 1"]),
    ("ip6 filter", ["ip6tables-legacy -N ISTIO_OLD"]),
    ("route v4", ["ip route del local default dev lo table 100"]),
    ("route v6", ["ip -6 route del local default dev lo table 100"]),
    ("rule v4", ["ip -4 rule del pref 32764 fwmark 0x111/0xfff lookup 100"]),
    ("rule v6", ["ip -6 rule del pref 32764 fwmark 0x111/0xfff lookup 100"]),
  ]

  @Test("that is damaged is noticed, and repaired without touching anything else", arguments: damages)
  func damage(subject: String, commands: [String]) throws {
    let pod = try podWithForeignRules()
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    // `USERS` is theirs: only its goto is ours to take out.
    if commands[0].hasSuffix("USERS") { try pod.run("iptables-legacy", "-t", "nat", "-N", "USERS") }
    let before = try pod.everything()
    for command in commands where !command.hasSuffix("-N USERS") {
      try Command.run(["ip", "netns", "exec", pod.name] + command.split(separator: " ").map(String.init))
    }
    let isFlushed = commands.contains { $0.hasSuffix("-t nat -F") }
    let deviations = try pod.redirector.check(settings, in: pod.namespace)
    #expect(!deviations.isEmpty)
    #expect(deviations.allSatisfy { $0.subject.hasPrefix(subject) }, "\(deviations)")
    #expect(try pod.redirector.apply(settings, in: pod.namespace).changed == [subject])
    #expect(try pod.redirector.check(settings, in: pod.namespace).isEmpty)
    if !isFlushed { #expect(try pod.everything() == before) }
  }

  @Test("half-written by a run that was cut off is completed")
  func halfWritten() throws {
    let pod = try TestNamespace()
    try pod.run("iptables-legacy", "-t", "nat", "-N", "ISTIO_OUTPUT")
    try pod.run("iptables-legacy", "-t", "nat", "-A", "ISTIO_OUTPUT", "-j", "RETURN")
    try pod.run("ip6tables-legacy", "-t", "mangle", "-N", "ISTIO_PRERT")
    try pod.ip("-6", "route", "add", "local", "default", "dev", "lo", "table", "100")
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    #expect(try pod.redirector.current(in: pod.namespace) == Redirector.listing(settings))
  }

  @Test("of ours under a name that is no text is removed too")
  func binaryName() throws {
    let pod = try TestNamespace()
    try pod.run("sh", "-c", "iptables-legacy -t nat -N $(printf 'ISTIO_\\377')")
    #expect(try pod.redirector.current(in: pod.namespace).contains(":ISTIO_\\xff -\n"))
    #expect(try pod.redirector.remove(from: pod.namespace).changed == ["nat"])
    #expect(try pod.saved() == "")
  }

  @Test("of our policy rule in two copies is reduced to one")
  func doubledRule() throws {
    let pod = try TestNamespace()
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    try pod.namespace.enter {
      var session = try NetlinkSession()
      let rule = PolicyRoute(family: .v4, loopback: 1).rule
      #expect(try session.change(NetlinkMessage.Kind.newRule, flags: NetlinkMessage.Flag.create, rule) == 0)
    }
    #expect(try pod.redirector.check(settings, in: pod.namespace).map(\.subject) == ["rule v4"])
    #expect(try pod.redirector.apply(settings, in: pod.namespace).changed == ["rule v4"])
    #expect(try pod.redirector.remove(from: pod.namespace).changed.contains("rule v4"))
  }

  @Test("that beats our route and that we may not remove is an error, never a silent hole")
  func unbeatableRoute() throws {
    let pod = try TestNamespace()
    try pod.ip("-6", "route", "add", "unreachable", "default", "table", "100", "metric", "1")
    #expect {
      try pod.redirector.apply(settings, in: pod.namespace)
    } throws: { error in
      guard case .notProven(let deviations)? = error as? RedirectionError else { return false }
      return deviations.map(\.subject) == ["route v6"]
    }
  }

  @Test("in our route table loses against our default route")
  func foreignDefaultRoute() throws {
    let pod = try TestNamespace()
    try pod.ip("route", "add", "unreachable", "default", "table", "100", "metric", "50")
    _ = try pod.redirector.apply(settings, in: pod.namespace)
    #expect(try pod.redirector.check(settings, in: pod.namespace).isEmpty)
    _ = try pod.redirector.remove(from: pod.namespace)
    #expect(try pod.ip("route", "show", "table", "100").contains("unreachable default metric 50"))
  }
}

@Suite("Limits of a namespace", .namespaces)
struct NamespaceLimitsTests {
  @Test("without IPv6 on loopback are reported, and IPv6 capture is still written")
  func ipv6Disabled() throws {
    let pod = try TestNamespace()
    try pod.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/lo/disable_ipv6")
    let report = try pod.redirector.apply(RedirectionSettings(), in: pod.namespace)
    #expect(report.degradations == [.ipv6DisabledOnLoopback])
    #expect(try pod.saved("ip6tables") == SpecificationListings.tables(.init(), .v6))
    #expect(try !pod.ip("-6", "rule").contains("32764"))
    #expect(try pod.redirector.check(RedirectionSettings(), in: pod.namespace).isEmpty)

    // Enabled again, the missing half is a difference.
    try pod.run("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/lo/disable_ipv6")
    let deviations = try pod.redirector.check(RedirectionSettings(), in: pod.namespace)
    #expect(deviations.map(\.subject) == ["route v6", "rule v6"])
    #expect(try pod.redirector.apply(RedirectionSettings(), in: pod.namespace).changed == ["route v6", "rule v6"])
  }

  @Test("with loopback down are an error that says so, before anything is captured")
  func loopbackDown() throws {
    let pod = try TestNamespace(loopbackUp: false)
    #expect(throws: RedirectionError.loopbackDown) {
      try pod.redirector.apply(RedirectionSettings(), in: pod.namespace)
    }
    #expect(try !pod.saved().contains("*nat"))
  }

  @Test("do not leak from one namespace into another when several threads write at once")
  func parallel() throws {
    let modes = SpecificationListings.Mode.all
    let pods = try modes.map { _ in try TestNamespace() }
    let redirector = pods[0].redirector
    DispatchQueue.concurrentPerform(iterations: pods.count * 3) { index in
      let place = index % pods.count
      do { _ = try redirector.apply(modes[place].settings, in: pods[place].namespace) } catch {
        Issue.record(error)
      }
    }
    for (pod, mode) in zip(pods, modes) {
      #expect(try pod.saved("iptables") == SpecificationListings.tables(mode, .v4))
      #expect(try pod.saved("ip6tables") == SpecificationListings.tables(mode, .v6))
    }
    #expect(try NetworkNamespace(path: "/proc/thread-self/ns/net").identity == NetworkNamespace.home.identity)
  }

  @Test("hold against writers that know nothing of the lock")
  func writersWithoutLock() throws {
    let pod = try TestNamespace()
    let redirector = pod.redirector
    DispatchQueue.concurrentPerform(iterations: 2) { side in
      for round in 0..<15 {
        do {
          if side == 0 {
            _ = try redirector.apply(RedirectionSettings(dnsCapture: round % 2 == 0), in: pod.namespace)
          } else {
            try pod.run(
              "iptables-legacy", "-w", "-t", "nat", "-A", "POSTROUTING", "-d", "192.0.2.\(round)", "-j", "ACCEPT")
          }
        } catch RedirectionError.notProven, RedirectionError.tableBusy {
          // The other side's write came in between: said, not hidden.
        } catch is Command.Failed {
        } catch {
          Issue.record(error)
        }
      }
    }
    _ = try redirector.apply(RedirectionSettings(), in: pod.namespace)
    #expect(try redirector.check(RedirectionSettings(), in: pod.namespace).isEmpty)
  }

  @Test("wait for the lock no longer than they may")
  func lockTimeout() throws {
    let pod = try TestNamespace()
    let path = "/tmp/rdr-test-\(UInt64.random(in: .min ... .max)).lock"
    defer { unlink(path) }
    let held = try XtablesLock(path: path, timeout: .seconds(1))
    let started = ContinuousClock.now
    #expect(throws: RedirectionError.lockTimedOut(path: path)) {
      try Redirector(lockPath: path, lockTimeout: .milliseconds(200)).check(RedirectionSettings(), in: pod.namespace)
    }
    let waited = ContinuousClock.now - started
    #expect(waited >= .milliseconds(200) && waited < .seconds(5))
    withExtendedLifetime(held) {}
  }

  @Test("of one namespace wait for nobody in another, and for whoever is in the same one")
  func ownLocks() throws {
    let (busy, other) = (try TestNamespace(), try TestNamespace())
    let held = try XtablesLock(of: busy.namespace, timeout: .seconds(1))
    let redirector = Redirector(lockTimeout: .milliseconds(200))
    _ = try redirector.apply(RedirectionSettings(), in: other.namespace)
    // The same namespace, found another way.
    let again = try NetworkNamespace(path: "/run/netns/\(busy.name)")
    #expect(throws: RedirectionError.lockTimedOut(path: "\(busy.namespace.identity)")) {
      try redirector.check(RedirectionSettings(), in: again)
    }
    withExtendedLifetime(held) {}
  }

  @Test("on many namespaces at once are each what they should be")
  func atOnce() async throws {
    let pods = try (0..<8).map { _ in try TestNamespace() }
    let threads = BlockingThreads(limit: 8)
    let redirector = Redirector(lockTimeout: .seconds(30))
    try await withThrowingTaskGroup(of: Void.self) { group in
      for pod in pods {
        let namespace = pod.namespace
        group.addTask {
          try await threads.run {
            for _ in 0..<5 {
              _ = try redirector.apply(RedirectionSettings(dnsCapture: true), in: namespace)
              guard try redirector.check(RedirectionSettings(dnsCapture: true), in: namespace).isEmpty else {
                throw RedirectionError.tableBusy(table: "not what was written")
              }
              _ = try redirector.remove(from: namespace)
            }
          }
        }
      }
      try await group.waitForAll()
    }
    for pod in pods { #expect(try pod.saved() == "") }
  }

  @Test("make the lock's directory, and say so when they cannot")
  func lockDirectory() throws {
    let pod = try TestNamespace()
    let directory = "/tmp/rdr-test-\(UInt64.random(in: .min ... .max))"
    defer {
      unlink(directory + "/lock")
      rmdir(directory)
    }
    _ = try Redirector(lockPath: directory + "/lock").check(RedirectionSettings(), in: pod.namespace)
    #expect(access(directory + "/lock", F_OK) == 0)
    #expect {
      try Redirector(lockPath: directory + "/no/such/lock").check(RedirectionSettings(), in: pod.namespace)
    } throws: { ($0 as? RedirectionError)?.code == "REDIRECTION_LOCK_UNUSABLE" }
  }
}
