import Testing
import Vocabulary

@testable import Redirection

@Suite("Rule sets")
struct RuleCatalogueTests {
  @Test(
    "equal the specified listings in every mode", arguments: SpecificationListings.Mode.all, IPAddress.Family.allCases)
  func listings(mode: SpecificationListings.Mode, family: IPAddress.Family) {
    let text = RuleCatalogue(settings: mode.settings, family: family).tables.filter { !$0.isEmpty }
      .map(\.snapshot.text).joined()
    #expect(text == SpecificationListings.tables(mode, family))
  }

  @Test("are listed for both families, with the routes and rules as comments")
  func publicListing() {
    let mode = SpecificationListings.Mode(dns: true)
    #expect(
      Redirector.listing(mode.settings) == """
        # IPv4
        \(SpecificationListings.tables(mode, .v4))\
        # route: local 0.0.0.0/0 dev lo scope host table 100
        # rule: pref 32764 fwmark 0x111/0xfff lookup 100
        # IPv6
        \(SpecificationListings.tables(mode, .v6))\
        # route: local ::/0 dev lo table 100
        # rule: pref 32764 fwmark 0x111/0xfff lookup 100

        """)
  }

  @Test("leave IPv6 out when it is off")
  func withoutIPv6() {
    #expect(!Redirector.listing(RedirectionSettings(ipv6: false)).contains("IPv6"))
  }

  @Test("exempt the configured probe address")
  func probeAddress() {
    let settings = RedirectionSettings(probeSourceV4: .v4(0x0a00_0001))
    let text = Redirector.listing(settings)
    #expect(text.contains("-A ISTIO_PRERT -s 10.0.0.1/32 -p tcp -m tcp -j ACCEPT"))
    #expect(text.contains("-A ISTIO_OUTPUT -d 10.0.0.1/32 -p tcp -m tcp -j ACCEPT"))
    #expect(!text.contains("169.254.7.127"))
  }

  @Test("give a reason for every rule and jump", arguments: SpecificationListings.Mode.all)
  func reasons(mode: SpecificationListings.Mode) {
    for table in RuleCatalogue(settings: mode.settings, family: .v4).tables {
      #expect(table.jumps.allSatisfy { !$0.reason.isEmpty })
      #expect(table.chains.flatMap(\.rules).allSatisfy { !$0.reason.isEmpty && $0.identifier.count == 2 })
    }
  }

  @Test("are refused when a probe address has the other family")
  func wrongFamily() {
    let settings = RedirectionSettings(probeSourceV6: .v4(1))
    #expect(throws: RedirectionError.probeSourceOfWrongFamily(address: .v4(1), family: .v6)) {
      try settings.validate()
    }
  }
}

@Suite("Interface names")
struct InterfaceNameTests {
  @Test("are accepted when the kernel could have them", arguments: ["a", "eth0", "fake1s0f0", "br-1234567890ab", "ä0"])
  func accepted(text: String) { #expect(InterfaceName(text)?.text == text) }

  @Test(
    "are refused when it could not, or when a rule would read them as a wildcard",
    arguments: [
      "", "sixteen-letters-", "a/b", "a b", "a\tb", "a\n", ".", "..", "eth+", "a:b", "a\u{0}b", "\u{7f}", "\u{e0}",
    ])
  func refused(text: String) { #expect(InterfaceName(text) == nil) }
}

@Suite("Installing")
struct InstallStepTests {
  private func names(_ settings: RedirectionSettings, _ support: IPv6Support) -> [String] {
    InstallStep.sequence(settings, support).map { step in
      switch step {
      case .write(let plan): "write \(plan.table)"
      case .sweep(let plan): "sweep \(plan.table)"
      case .route(let family): "route \(family)"
      case .unroute(let family): "unroute \(family)"
      }
    }
  }

  @Test("writes marks, zones and routes before capture, and sweeps leftovers after it")
  func order() {
    #expect(
      names(RedirectionSettings(dnsCapture: true), .full) == [
        "write raw", "write mangle", "write ip6 raw", "write ip6 mangle", "route v4", "route v6", "write nat",
        "write ip6 nat", "sweep filter", "sweep ip6 filter",
      ])
  }

  @Test("takes IPv6 out, capture first, when it is switched off")
  func ipv6Off() {
    #expect(
      names(RedirectionSettings(ipv6: false), .full) == [
        "write mangle", "route v4", "write nat", "sweep raw", "sweep filter", "sweep ip6 nat", "unroute v6",
        "sweep ip6 mangle", "sweep ip6 raw", "sweep ip6 filter",
      ])
  }

  @Test("keeps the IPv6 rules but not the route where loopback has no IPv6")
  func disabledOnLoopback() {
    let steps = names(RedirectionSettings(), .disabledOnLoopback)
    #expect(steps.contains("write ip6 nat"))
    #expect(!steps.contains("route v6"))
  }

  @Test("leaves IPv6 alone where the kernel has none")
  func notInKernel() {
    #expect(!names(RedirectionSettings(), .notInKernel).contains { $0.contains("6") })
  }
}
