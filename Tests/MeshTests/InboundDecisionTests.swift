import Testing
import Vocabulary

@testable import Mesh

/// hbone.md §7, services.md §9.
@Suite struct InboundDecisionTests {
  static func decide(
    _ authority: String, connection: String = "10.0.0.1", settings: MeshSettings = MeshSettings(),
    local: (inout Workload.Record) -> Void = { _ in }, workloads: [Workload.Record] = [],
    services: [Service.Record] = []
  ) -> InboundDecision {
    let pod = Workload.Record.pod("cart", "10.0.0.1", "fd00::1", change: local)
    let snapshot = MeshSnapshot(settings, workloads: [pod] + workloads, services: services)
    return snapshot.inbound(
      to: snapshot.pod("cart"), connectionIP: ip(connection), authority: Array(authority.utf8))
  }

  static func route(_ decision: InboundDecision, _ location: SourceLocation = #_sourceLocation) throws -> InboundRoute {
    guard case .accepted(let route) = decision else {
      Issue.record("expected a route, found \(decision)", sourceLocation: location)
      throw InboundRefusal.selfCall(0)
    }
    return route
  }

  static func refusal(_ decision: InboundDecision) -> InboundRefusal? {
    if case .refused(let refusal) = decision { refusal } else { nil }
  }

  @Test("the connection's own address goes to the port asked for")
  func own() throws {
    let route = try Self.route(Self.decide("10.0.0.1:8080"))
    #expect(route.target == socket("10.0.0.1:8080") && route.policyDestination == route.target)
    #expect(route.applicationTunnel == nil && route.proxyHeaderDestination == nil && !route.isFromLoopback)
    #expect(try Self.route(Self.decide("[fd00::1]:8080", connection: "fd00::1")).target == socket("[fd00::1]:8080"))
  }

  @Test("another address is refused with both", arguments: ["10.0.0.2:80", "[::ffff:10.0.0.1]:80", "[fd00::1]:80"])
  func mismatch(_ authority: String) {
    let refusal = Self.refusal(Self.decide(authority))
    #expect(refusal?.status == 400 && refusal?.code == "INBOUND_IP_MISMATCH")
    #expect(refusal?.summary == "ip mismatch: 10.0.0.1 != \(socket(authority).ip)")
  }

  @Test(
    "the proxy's own ports are refused",
    arguments: ["10.0.0.1:15001", "10.0.0.1:15006", "10.0.0.1:15008", "cart.local:80"])
  func reserved(_ authority: String) {
    let service = Service.Record.named("shop/cart.local", ports: [80: 15008])
    let refusal = Self.refusal(Self.decide(authority, services: [service]))
    #expect(refusal?.status == 503 && refusal?.summary == "attempted recursive call to ourselves")
  }

  @Test("15080 is refused only while SOCKS5 is on", arguments: [true, false])
  func socks(_ isEnabled: Bool) {
    let decision = Self.decide("10.0.0.1:15080", settings: MeshSettings(isSOCKS5Enabled: isEnabled))
    #expect((Self.refusal(decision) == .selfCall(15080)) == isEnabled)
  }

  @Test(
    "a host name resolves to the workload's own port, else the service's",
    arguments: ["cart.local:80", "CART.Local:80"])
  func hostname(_ authority: String) throws {
    let service = Service.Record.named("shop/cart.local", ports: [80: 8080])
    let shared = try Self.route(Self.decide(authority, services: [service]))
    #expect(shared.target == socket("10.0.0.1:8080") && shared.service?.hostname == "cart.local")
    let own = try Self.route(
      Self.decide(authority, local: { $0 = $0.serving("shop/cart.local", [80: 9090]) }, services: [service]))
    #expect(own.target == socket("10.0.0.1:9090"))
  }

  @Test("what a host name lacks is named, with status 503")
  func hostnameRefusals() {
    let hidden = Service.Record.named("other/cart.local") { $0.visibility = .namespace }
    let named = Service.Record.named("shop/cart.local", ports: [80: 0])
    let cases: [([Service.Record], String)] = [
      ([], "no service or workload for hostname: cart.local"),
      ([hidden], "no service or workload for hostname: cart.local"),
      ([named], "requested service cart.local:80 found, but cannot resolve port"),
      ([.named("shop/cart.local", ports: [:])], "requested service cart.local:80 found, but cannot resolve port"),
    ]
    for (services, summary) in cases {
      let refusal = Self.refusal(Self.decide("cart.local:80", services: services))
      #expect(refusal?.summary == summary && refusal?.status == 503)
    }
  }

  @Test(
    "a waypoint accepts the addresses of what it is the waypoint of",
    arguments: [
      GatewayReference.host("shop/cart.local"), .address("/10.9.0.50"), .address("/10.0.0.1"), .host("shop/cart.host"),
    ])
  func waypoint(_ reference: GatewayReference) {
    let own = Service.Record.named("shop/cart.local", "/10.9.0.50")
    let guarded = Service.Record.named("shop/guarded.local", "/10.9.0.1") { $0.waypoint = reference }
    let weighted = Service.Record.named("shop/weighted.local", "/10.9.0.2") {
      $0.waypoint = .address("/10.77.0.1")
      $0.weightedWaypoints = [WeightedWaypoint(reference, weight: 1)]
    }
    let pod = Workload.Record.pod("web", "10.0.0.9") { $0.waypoint = reference }
    let elsewhere = Workload.Record.pod("free", "10.0.0.10")
    func decide(_ authority: String) -> InboundDecision {
      Self.decide(
        authority,
        local: {
          $0.hostname = "cart.host"
          $0 = $0.serving("shop/cart.local")
        },
        workloads: [pod, elsewhere], services: [own, guarded, weighted])
    }
    for authority in ["10.9.0.1:80", "10.9.0.2:80", "10.0.0.9:80"] {
      // Bytes still go to the address the connection came to.
      #expect((try? Self.route(decide(authority)))?.target == socket("10.0.0.1:80"))
    }
    for authority in ["10.0.0.10:80", "10.9.0.50:80", "10.99.0.1:80"] {
      #expect(Self.refusal(decide(authority))?.status == 400)
    }
  }

  @Test("an application tunnel takes any address and its own port, which is what policy sees")
  func applicationTunnel() throws {
    let route = try Self.route(Self.decide("10.77.0.1:80", local: { $0.applicationTunnel = .init(.none, port: 15088) }))
    #expect(route.target == socket("10.0.0.1:15088") && route.policyDestination == socket("10.0.0.1:15088"))
    #expect(route.proxyHeaderDestination == nil && !route.isFromLoopback)
    #expect(route.applicationTunnel == .init(.none, port: 15088))
  }

  @Test("a PROXY tunnel is reached over loopback with the address asked for, and policy sees the pod's")
  func proxyTunnel() throws {
    let tunnel = Workload.ApplicationTunnel(.proxy, port: 15088)
    let route = try Self.route(Self.decide("10.77.0.1:80", local: { $0.applicationTunnel = tunnel }))
    #expect(route.target == socket("127.0.0.1:15088") && route.policyDestination == socket("10.0.0.1:15088"))
    #expect(route.proxyHeaderDestination == socket("10.77.0.1:80") && route.isFromLoopback)
    let six = try Self.route(
      Self.decide("[fd00::1]:80", connection: "fd00::1", local: { $0.applicationTunnel = tunnel }))
    #expect(six.target == socket("[::1]:15088"))
    let direct = try Self.route(
      Self.decide(
        "10.77.0.1:80", settings: MeshSettings(reachesApplicationTunnelsOverLoopback: false),
        local: { $0.applicationTunnel = tunnel }))
    #expect(direct.target == socket("10.0.0.1:15088") && !direct.isFromLoopback)
  }

  @Test("the reserved ports are refused before the tunnel's port replaces them")
  func reservedBeforeTunnel() {
    let decision = Self.decide("10.0.0.1:15008", local: { $0.applicationTunnel = .init(.none, port: 15088) })
    #expect(Self.refusal(decision) == .selfCall(15008))
  }

  @Test("a PROXY header for a host name has an address of the service, of our network and IPv4 first")
  func proxyHostname() throws {
    func header(_ addresses: String...) throws -> SocketAddress? {
      let service = Service.Record.named("shop/cart.local") { $0.addresses = addresses.map(virtual) }
      let decision = Self.decide(
        "cart.local:80", settings: MeshSettings(network: "n"), local: { $0.applicationTunnel = .init(.proxy) },
        services: [service])
      if Self.refusal(decision)?.summary == "requested service cart.local found, but has no IP addresses" { return nil }
      return try Self.route(decision).proxyHeaderDestination
    }
    #expect(try header("x/10.9.0.1", "n/fd99::1") == socket("[fd99::1]:80"))
    #expect(try header("n/fd99::1", "n/10.9.0.2", "x/10.9.0.1") == socket("10.9.0.2:80"))
    #expect(try header("x/fd99::1", "x/10.9.0.1") == socket("10.9.0.1:80"))
    #expect(try header() == nil)
  }

  @Test("an authority that is none is refused with 400 and printed harmlessly")
  func badAuthority() {
    let refusal = Self.refusal(Self.decide("evil\r\n\u{e9}:x"))
    #expect(refusal?.status == 400)
    #expect(refusal?.summary == "no valid authority pseudo header: evil????:x")
    #expect(Self.refusal(Self.decide(String(repeating: "a", count: 100_000)))?.summary.count ?? 0 < 200)
  }
}
