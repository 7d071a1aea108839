import Testing
import Vocabulary

@testable import Mesh

/// services.md §6 to §8, datapath.md §4.1. Pod `web` of namespace `shop` calls.
@Suite struct OutboundRouteTests {
  static let settings = MeshSettings(network: "n")
  static let gatewayIdentity = identity("cluster.local/ns/shop/sa/gateway")

  static func pod(_ name: String, _ addresses: String..., change: (inout Workload.Record) -> Void = { _ in })
    -> Workload.Record
  {
    .pod(name) {
      $0.network = "n"
      $0.addresses = addresses.map(ip)
      change(&$0)
    }
  }

  static func snapshot(_ workloads: [Workload.Record], _ services: [Service.Record] = []) -> MeshSnapshot {
    MeshSnapshot(settings, workloads: [pod("web", "10.0.0.1", "fd00::1")] + workloads, services: services)
  }

  static func route(
    _ destination: String, _ workloads: [Workload.Record] = [], _ services: [Service.Record] = []
  ) -> OutboundDecision {
    snapshot(workloads, services).route(from: "web", to: destination)
  }

  static func tunnel(_ decision: OutboundDecision, _ location: SourceLocation = #_sourceLocation) throws -> TunnelRoute
  {
    guard case .tunnel(let route) = decision else {
      Issue.record("expected a tunnel, found \(decision)", sourceLocation: location)
      throw RouteRefusal.noHealthyUpstream(socket("0.0.0.0:0"))
    }
    return route
  }

  // MARK: Addresses

  @Test(
    "the proxy's own ports on loopback are refused", arguments: ["127.0.0.1:15001", "[::1]:15006", "127.9.9.9:15008"])
  func selfCall(_ destination: String) {
    #expect(Self.route(destination) == .refused(.selfCall(socket(destination))))
    #expect(RouteRefusal.selfCall(socket(destination)).summary == "attempted recursive call to ourselves")
  }

  @Test(
    "other ports on loopback and those ports elsewhere are not",
    arguments: ["127.0.0.1:80", "127.0.0.1:15080", "10.9.9.9:15008", "[::1]:15080"])
  func notSelfCall(_ destination: String) {
    #expect(Self.route(destination) == .passthrough(socket(destination), service: nil))
  }

  @Test("15080 is the proxy's own once SOCKS5 is on")
  func socks() {
    let snapshot = MeshSnapshot(
      MeshSettings(network: "n", isSOCKS5Enabled: true), workloads: [Self.pod("web", "10.0.0.1")])
    #expect(snapshot.route(from: "web", to: "127.0.0.1:15080") == .refused(.selfCall(socket("127.0.0.1:15080"))))
  }

  @Test("an address nobody knows is passed through")
  func unknown() {
    #expect(Self.route("93.184.216.34:443") == .passthrough(socket("93.184.216.34:443"), service: nil))
  }

  @Test("a mapped destination is the IPv4 address it maps")
  func mapped() throws {
    let route = try Self.tunnel(Self.route("[::ffff:10.0.0.2]:80", [Self.pod("cart", "10.0.0.2")]))
    #expect(route.authority.description == "10.0.0.2:80")
  }

  @Test("a pod addressed by IP gets a tunnel to 15008 with its own address and port as authority")
  func direct() throws {
    let route = try Self.tunnel(Self.route("10.0.0.2:8080", [Self.pod("cart", "10.0.0.2")]))
    #expect(route.nextHop == socket("10.0.0.2:15008"))
    #expect(route.authority.description == "10.0.0.2:8080")
    #expect(route.expectedIdentities == [identity("cluster.local/ns/shop/sa/cart")])
    #expect(route.service == nil && !route.isViaWaypoint)
  }

  @Test("a workload without a tunnel gets plain TCP")
  func plain() {
    let cart = Self.pod("cart", "10.0.0.2") { $0.tunnelProtocol = .none }
    let snapshot = Self.snapshot([cart])
    #expect(
      snapshot.route(from: "web", to: "10.0.0.2:8080")
        == .plain(PlainRoute(destination: socket("10.0.0.2:8080"), workload: snapshot.pod("cart"), service: nil)))
  }

  @Test("a host-network workload is not found by its address")
  func hostNetwork() {
    let node = Self.pod("node", "10.0.0.2") { $0.networkMode = .hostNetwork }
    #expect(Self.route("10.0.0.2:80", [node]) == .passthrough(socket("10.0.0.2:80"), service: nil))
  }

  @Test("the empty network is a network of its own")
  func emptyNetwork() {
    let cart = Self.pod("cart", "10.0.0.2") { $0.network = "" }
    #expect(Self.route("10.0.0.2:80", [cart]) == .passthrough(socket("10.0.0.2:80"), service: nil))
  }

  // MARK: Services

  @Test("a service is translated to an endpoint, and its names are accepted besides the pod's")
  func service() throws {
    let cart = Self.pod("cart", "10.0.0.2").serving("shop/cart.local")
    let service = Service.Record.named("shop/cart.local", "n/10.9.0.1") {
      $0.subjectAltNames = ["spiffe://td/ns/a/sa/b", "cart.local", "spiffe://td/bad"]
    }
    let route = try Self.tunnel(Self.route("10.9.0.1:80", [cart], [service]))
    #expect(route.nextHop == socket("10.0.0.2:15008"))
    #expect(route.authority.description == "10.0.0.2:8080")
    #expect(route.expectedIdentities == [identity("cluster.local/ns/shop/sa/cart"), identity("td/ns/a/sa/b")])
    #expect(route.service?.hostname == "cart.local")
  }

  @Test("a service without endpoints or without the port is refused, never passed through")
  func noUpstream() {
    let service = Service.Record.named("shop/cart.local", "n/10.9.0.1")
    #expect(Self.route("10.9.0.1:80", [], [service]) == .refused(.noHealthyUpstream(socket("10.9.0.1:80"))))
    let cart = Self.pod("cart", "10.0.0.2").serving("shop/cart.local")
    #expect(Self.route("10.9.0.1:81", [cart], [service]) == .refused(.noHealthyUpstream(socket("10.9.0.1:81"))))
    #expect(
      RouteRefusal.noHealthyUpstream(socket("10.9.0.1:81")).summary == "no healthy upstream: 10.9.0.1:81")
  }

  @Test("a passthrough service leaves the traffic alone, endpoints or not")
  func passthrough() {
    let service = Service.Record.named("shop/ext.local", "n/10.9.0.1") {
      $0.loadBalancing = LoadBalancing(mode: .passthrough)
    }
    let cart = Self.pod("cart", "10.0.0.2").serving("shop/ext.local")
    #expect(
      Self.route("10.9.0.1:80", [cart], [service]) == .passthrough(socket("10.9.0.1:80"), service: Service(service)))
  }

  @Test("a passthrough range goes to the address asked for even if a workload lives there")
  func passthroughRange() {
    let service = Service.Record.named("shop/ext.local") {
      $0.prefixes = [NetworkPrefix(network: "n", prefix: prefix("10.0.0.0/24"))]
      $0.loadBalancing = LoadBalancing(mode: .passthrough)
    }
    let decision = Self.route("10.0.0.2:80", [Self.pod("cart", "10.0.0.2")], [service])
    #expect(decision == .passthrough(socket("10.0.0.2:80"), service: nil))
  }

  @Test("a workload inside a service's range is balanced by the service, and refused when it has nobody")
  func asymmetry() throws {
    let service = Service.Record.named("shop/range.local") {
      $0.prefixes = [NetworkPrefix(network: "n", prefix: prefix("10.0.0.0/24"))]
    }
    let cart = Self.pod("cart", "10.0.0.2")
    let other = Self.pod("other", "10.1.0.3").serving("shop/range.local")
    let route = try Self.tunnel(Self.route("10.0.0.2:80", [cart, other], [service]))
    #expect(route.workload.name == "other")
    #expect(Self.route("10.0.0.2:80", [cart], [service]) == .refused(.noHealthyUpstream(socket("10.0.0.2:80"))))
  }

  struct FamilyRow: Sendable, CustomTestStringConvertible {
    var testDescription: String
    var addresses: [String]
    var families: Service.IPFamilies
    var destination: String
    var chosen: String?
  }

  @Test(
    "the endpoint's address is of the client's family where the service allows",
    arguments: [
      FamilyRow(
        testDescription: "same family first", addresses: ["fd00::2", "10.0.0.2"], families: .automatic,
        destination: "10.9.0.1:80", chosen: "10.0.0.2:15008"),
      FamilyRow(
        testDescription: "same family first, v6", addresses: ["10.0.0.2", "fd00::2"], families: .dual,
        destination: "[fd99::1]:80", chosen: "[fd00::2]:15008"),
      FamilyRow(
        testDescription: "else the first", addresses: ["fd00::2", "fd00::3"], families: .automatic,
        destination: "10.9.0.1:80", chosen: "[fd00::2]:15008"),
      FamilyRow(
        testDescription: "IPv6 only", addresses: ["10.0.0.2", "fd00::2"], families: .v6Only,
        destination: "10.9.0.1:80", chosen: "[fd00::2]:15008"),
      FamilyRow(
        testDescription: "IPv4 only", addresses: ["10.0.0.2", "fd00::2"], families: .v4Only,
        destination: "[fd99::1]:80", chosen: "10.0.0.2:15008"),
      FamilyRow(
        testDescription: "nothing allowed", addresses: ["10.0.0.2"], families: .v6Only, destination: "10.9.0.1:80",
        chosen: nil),
    ])
  func family(_ row: FamilyRow) throws {
    let cart = Self.pod("cart") { $0.addresses = row.addresses.map(ip) }.serving("shop/cart.local")
    let service = Service.Record.named("shop/cart.local", "n/10.9.0.1", "n/fd99::1") { $0.ipFamilies = row.families }
    let decision = Self.route(row.destination, [cart], [service])
    guard let chosen = row.chosen else {
      #expect(decision == .refused(.noValidDestination(workload: "c//Pod/shop/cart")))
      return
    }
    #expect(try Self.tunnel(decision).nextHop == socket(chosen))
  }

  @Test("a workload with only a host name needs DNS, and the answer completes the route")
  func hostname() throws {
    let external = Self.pod("ext") {
      $0.hostname = "db.example.com"
      $0.tunnelProtocol = .none
    }.serving("shop/db.local")
    let service = Service.Record.named("shop/db.local", "n/10.9.0.1")
    guard case .needsResolution(let resolution) = Self.route("10.9.0.1:80", [external], [service]) else {
      Issue.record("expected a name to resolve")
      return
    }
    #expect(resolution.hostname == "db.example.com")
    #expect(resolution.preferredFamily == .v4)
    #expect(resolution.refusal.summary == "no ip addresses were resolved for workload: c//Pod/shop/ext")
    guard case .plain(let route) = resolution.completed(with: ip("192.0.2.7")) else {
      Issue.record("expected plain TCP")
      return
    }
    #expect(route.destination == socket("192.0.2.7:8080"))
  }

  // MARK: Waypoints

  static let waypoint = pod("waypoint", "10.0.0.50").serving("shop/waypoint.local")
  static let waypointService = Service.Record.named("shop/waypoint.local", "n/10.9.0.50", ports: [15008: 15008])

  @Test(
    "a service waypoint gets the untranslated address",
    arguments: ["shop/waypoint.local", "n/10.9.0.50", "n/10.0.0.50"])
  func serviceWaypoint(_ reference: String) throws {
    let reference =
      NetworkAddress(reference) == nil ? GatewayReference.host(reference) : .address(reference)
    let cart = Self.pod("cart", "10.0.0.2").serving("shop/cart.local")
    let service = Service.Record.named("shop/cart.local", "n/10.9.0.1") { $0.waypoint = reference }
    let route = try Self.tunnel(Self.route("10.9.0.1:80", [cart, Self.waypoint], [service, Self.waypointService]))
    #expect(route.nextHop == socket("10.0.0.50:15008"))
    #expect(route.authority.description == "10.9.0.1:80")
    #expect(route.isViaWaypoint && route.workload.name == "waypoint")
    #expect(route.service?.hostname == "cart.local")
    #expect(route.expectedIdentities == [identity("cluster.local/ns/shop/sa/waypoint")])
  }

  @Test("a waypoint that cannot be found refuses the connection, it is never bypassed")
  func unknownWaypoint() {
    let cart = Self.pod("cart", "10.0.0.2").serving("shop/cart.local")
    let service = Service.Record.named("shop/cart.local", "n/10.9.0.1") { $0.waypoint = .host("shop/waypoint.local") }
    let refusal = RouteRefusal.unknownWaypoint(.host("shop/waypoint.local"))
    #expect(Self.route("10.9.0.1:80", [cart], [service]) == .refused(refusal))
    #expect(Self.route("10.9.0.1:80", [cart], [service, Self.waypointService]) == .refused(refusal))
    #expect(refusal.summary == "unknown waypoint: shop/waypoint.local:15008")
  }

  @Test("the waypoint's port goes through its service")
  func waypointPort() throws {
    let service = Service.Record.named("shop/cart.local", "n/10.9.0.1") {
      $0.waypoint = .host("shop/waypoint.local", 15009)
    }
    let mapped = Service.Record.named("shop/waypoint.local", ports: [15009: 15088])
    let route = try Self.tunnel(Self.route("10.9.0.1:80", [Self.waypoint], [service, mapped]))
    #expect(route.nextHop == socket("10.0.0.50:15088"))
  }

  @Test("a passthrough service still goes through its waypoint")
  func passthroughWaypoint() throws {
    let service = Service.Record.named("shop/ext.local", "n/10.9.0.1") {
      $0.waypoint = .host("shop/waypoint.local")
      $0.loadBalancing = LoadBalancing(mode: .passthrough)
    }
    #expect(try Self.tunnel(Self.route("10.9.0.1:80", [Self.waypoint], [service, Self.waypointService])).isViaWaypoint)
  }

  @Test("a passthrough service is a gateway by host name and none by address")
  func passthroughGateway() throws {
    let waypoint = Service.Record.named("shop/waypoint.local", "n/10.9.0.50", ports: [15008: 15008]) {
      $0.loadBalancing = LoadBalancing(mode: .passthrough)
    }
    for (reference, isFound) in [
      (GatewayReference.host("shop/waypoint.local"), true), (.address("n/10.9.0.50"), false),
    ] {
      let service = Service.Record.named("shop/cart.local", "n/10.9.0.1") { $0.waypoint = reference }
      let decision = Self.route("10.9.0.1:80", [Self.waypoint], [service, waypoint])
      #expect((decision != .refused(.unknownWaypoint(reference))) == isFound)
    }
  }

  @Test("weighted waypoints are drawn by weight, and the single one is for when none has any")
  func weightedWaypoints() throws {
    let other = Self.pod("other", "10.0.0.60")
    let references = [GatewayReference.address("n/10.0.0.50"), .address("n/10.0.0.60")]
    func shares(_ weights: [UInt32]) throws -> [String: Int] {
      let service = Service.Record.named("shop/cart.local", "n/10.9.0.1") {
        $0.waypoint = .address("n/10.0.0.50")
        $0.weightedWaypoints = zip(references, weights).map { WeightedWaypoint($0, weight: $1) }
      }
      let snapshot = Self.snapshot([Self.waypoint, other], [service])
      var random = SeededGenerator(seed: 3)
      var counts: [String: Int] = [:]
      for _ in 0..<2000 {
        let decision = snapshot.route(
          from: snapshot.pod("web"), sourceIP: ip("10.0.0.1"), to: socket("10.9.0.1:80"), using: &random)
        counts[try Self.tunnel(decision).workload.name, default: 0] += 1
      }
      return counts
    }
    #expect(try shares([0, 5]) == ["other": 2000])
    #expect(try shares([0, 0]) == ["waypoint": 2000])
    #expect(try shares([.max, .max]).count == 2)
    let third = try shares([1, 3])["waypoint"] ?? 0
    #expect((420...580).contains(third))
  }

  @Test("a pod's waypoint is used for its address, and not for a service it is in")
  func workloadWaypoint() throws {
    let cart = Self.pod("cart", "10.0.0.2") { $0.waypoint = .host("shop/waypoint.local") }.serving("shop/cart.local")
    let services = [Service.Record.named("shop/cart.local", "n/10.9.0.1"), Self.waypointService]
    let byAddress = try Self.tunnel(Self.route("10.0.0.2:8080", [cart, Self.waypoint], services))
    #expect(byAddress.isViaWaypoint && byAddress.authority.description == "10.0.0.2:8080")
    #expect(byAddress.nextHop == socket("10.0.0.50:15008"))
    #expect(try !Self.tunnel(Self.route("10.9.0.1:80", [cart, Self.waypoint], services)).isViaWaypoint)
  }

  @Test(
    "the waypoint itself goes straight to the pod, from its own address only",
    arguments: [("10.0.0.50", false), ("10.0.0.51", true)])
  func callerIsWaypoint(_ sourceIP: String, _ isViaWaypoint: Bool) throws {
    for reference in [GatewayReference.host("shop/waypoint.local"), .address("n/10.9.0.50"), .address("n/10.0.0.50")] {
      let cart = Self.pod("cart", "10.0.0.2") { $0.waypoint = reference }
      let snapshot = Self.snapshot([cart, Self.waypoint], [Self.waypointService])
      var random = SeededGenerator(seed: 1)
      let decision = snapshot.route(
        from: snapshot.pod("waypoint"), sourceIP: ip(sourceIP), to: socket("10.0.0.2:80"), using: &random)
      #expect(try Self.tunnel(decision).isViaWaypoint == isViaWaypoint)
    }
  }

  // MARK: Other networks

  static let remote = pod("remote") {
    $0.network = "far"
    $0.networkGateway = .address("far/192.0.2.1", 15008)
  }.serving("shop/cart.local")
  static let gateway = pod("gateway", "192.0.2.1") { $0.network = "far" }

  static func doubleTunnel(_ decision: OutboundDecision) throws -> DoubleTunnelRoute {
    guard case .doubleTunnel(let route) = decision else {
      Issue.record("expected two tunnels, found \(decision)")
      throw RouteRefusal.noHealthyUpstream(socket("0.0.0.0:0"))
    }
    return route
  }

  static let named = Service.Record.named("shop/cart.local", "n/10.9.0.1") {
    $0.subjectAltNames = ["spiffe://cluster.local/ns/shop/sa/cart"]
  }

  @Test("an endpoint on another network is reached by a tunnel in a tunnel through its gateway")
  func remoteEndpoint() throws {
    let route = try Self.doubleTunnel(Self.route("10.9.0.1:80", [Self.remote, Self.gateway], [Self.named]))
    #expect(route.outer.nextHop == socket("192.0.2.1:15008"))
    #expect(route.outer.authority.description == "cart.local:80" && route.innerAuthority.description == "cart.local:80")
    #expect(route.outer.expectedIdentities == [Self.gatewayIdentity])
    #expect(route.innerExpectedIdentities == [identity("cluster.local/ns/shop/sa/cart")])
    #expect(route.forwardedNetwork == "n")
    #expect(route.workload.name == "remote" && route.service.hostname == "cart.local" && !route.isViaWaypoint)
  }

  @Test("a waypoint on another network is reached the same way, verified by the waypoint service's names")
  func remoteWaypoint() throws {
    let waypoint = Self.pod("waypoint") {
      $0.network = "far"
      $0.networkGateway = .address("far/192.0.2.1")
    }.serving("shop/waypoint.local")
    var waypointService = Self.waypointService
    waypointService.subjectAltNames = ["spiffe://cluster.local/ns/shop/sa/waypoint"]
    var service = Self.named
    service.waypoint = .host("shop/waypoint.local")
    let route = try Self.doubleTunnel(
      Self.route("10.9.0.1:80", [waypoint, Self.gateway], [service, waypointService]))
    #expect(route.isViaWaypoint && route.workload.name == "waypoint" && route.service.hostname == "cart.local")
    #expect(route.innerExpectedIdentities == [identity("cluster.local/ns/shop/sa/waypoint")])
    #expect(route.innerAuthority.description == "cart.local:80")
  }

  @Test("what is missing for another network is named")
  func remoteRefusals() {
    var withoutGateway = Self.remote
    withoutGateway.networkGateway = nil
    withoutGateway.addresses = [ip("172.16.0.1")]
    #expect(
      Self.route("10.9.0.1:80", [withoutGateway], [Self.named])
        == .refused(.noValidDestination(workload: Self.remote.uid)))
    #expect(
      Self.route("10.9.0.1:80", [Self.remote], [Self.named])
        == .refused(.unknownNetworkGateway(.address("far/192.0.2.1"))))
    var unnamed = Self.named
    unnamed.subjectAltNames = []
    #expect(
      Self.route("10.9.0.1:80", [Self.remote, Self.gateway], [unnamed])
        == .refused(.noExpectedIdentities(service: unnamed.key)))
  }

  @Test("another network is not reached by a pod's address")
  func remoteByAddress() {
    let waypoint = Self.pod("waypoint", "172.16.0.9") {
      $0.network = "far"
      $0.networkGateway = .address("far/192.0.2.1")
    }
    let cart = Self.pod("cart", "10.0.0.2") { $0.waypoint = .address("far/172.16.0.9") }
    #expect(
      Self.route("10.0.0.2:80", [cart, waypoint, Self.gateway]) == .refused(.noServiceForTarget(socket("10.0.0.2:80"))))
  }

  @Test("a gateway named by a service has its port mapped and its names accepted")
  func gatewayService() throws {
    var remote = Self.remote
    remote.networkGateway = .host("shop/gateway.local", 15009)
    let gateway = Self.gateway.serving("shop/gateway.local")
    let service = Service.Record.named("shop/gateway.local", ports: [15009: 15443]) {
      $0.subjectAltNames = ["spiffe://far/ns/g/sa/g"]
    }
    let route = try Self.doubleTunnel(Self.route("10.9.0.1:80", [remote, gateway], [Self.named, service]))
    #expect(route.outer.nextHop == socket("192.0.2.1:15443"))
    #expect(route.outer.expectedIdentities == [Self.gatewayIdentity, identity("far/ns/g/sa/g")])
  }

  // MARK: Explaining

  @Test("an explanation ends with the decision that routing makes, and says how it came about")
  func explain() {
    let cart = Self.pod("cart", "10.0.0.2").serving("shop/cart.local")
    let snapshot = Self.snapshot([cart, Self.waypoint], [.named("shop/cart.local", "n/10.9.0.1")])
    var random = SeededGenerator(seed: 1)
    let (decision, steps) = snapshot.explainRoute(
      from: snapshot.pod("web"), sourceIP: ip("10.0.0.1"), to: socket("10.9.0.1:80"), using: &random)
    #expect(decision == snapshot.route(from: "web", to: "10.9.0.1:80"))
    #expect(
      steps.map(\.description) == [
        "10.9.0.1:80 is an address of service shop/cart.local",
        "1 of 1 endpoints of shop/cart.local can be chosen (standard balancing)",
        "workload c//Pod/shop/cart was chosen, port 8080",
      ])
  }

  @Test("every refusal has its own code and a remedy")
  func refusalCodes() {
    let refusals: [RouteRefusal] = [
      .selfCall(socket("127.0.0.1:1")), .unknownWaypoint(.host("a/b")), .unknownNetworkGateway(.host("a/b")),
      .noHealthyUpstream(socket("1.1.1.1:1")), .noValidDestination(workload: "w"),
      .unresolvedHostname(workload: "w", hostname: "h"), .noServiceForTarget(socket("1.1.1.1:1")),
      .noExpectedIdentities(service: nil),
    ]
    #expect(Set(refusals.map(\.code)).count == refusals.count)
    #expect(refusals.allSatisfy { $0.remedy != nil })
  }
}
