import Testing
import Vocabulary

@testable import Mesh

/// xds.md §3.5.
@Suite struct OnDemandRouteTests {
  private static let settings = MeshSettings(localNode: "here", isOnDemand: true)
  private static let source = Workload.Record.pod("source", "10.0.0.1") { $0.node = "here" }

  private func unsettled(_ mesh: MeshSnapshot, to destination: String) -> [String] {
    var random = SeededGenerator(seed: 1)
    let choice = mesh.routeOnDemand(
      from: mesh.pod("source"), sourceIP: ip("10.0.0.1"), to: socket(destination), using: &random)
    return Array(Set(choice.unsettled.map(\.description))).sorted()
  }

  @Test("a decision names what it depends on, one step after the other, until nothing is missing")
  func steps() {
    var mesh = MeshSnapshot(settings: Self.settings).applying([.upsertWorkload(Self.source)]).snapshot
    #expect(unsettled(mesh, to: "10.9.0.1:80") == ["/10.9.0.1"])
    let service = Service.Record.named("shop/cart.local", "/10.9.0.1") { $0.waypoint = .host("shop/way.local") }
    mesh = mesh.applying([.upsertService(service)]).snapshot
    #expect(unsettled(mesh, to: "10.9.0.1:80") == ["shop/way.local"])
    let waypoint = Service.Record.named("shop/way.local", ports: [15008: 15008])
    let pod = Workload.Record.pod("way", "10.0.0.5").serving("shop/way.local")
    mesh = mesh.applying([.upsertService(waypoint), .upsertWorkload(pod)]).snapshot
    #expect(unsettled(mesh, to: "10.9.0.1:80").isEmpty)
  }

  @Test("what was answered, with something or with nothing, is not asked for again")
  func settled() {
    let mesh = MeshSnapshot(settings: Self.settings).applying([
      .upsertWorkload(Self.source), .settle(MeshKey("/10.9.0.1")),
    ]).snapshot
    #expect(unsettled(mesh, to: "10.9.0.1:80").isEmpty)
    #expect(unsettled(mesh, to: "10.9.0.2:80") == ["/10.9.0.2"])
    let forgotten = mesh.applying([.unsettle(MeshKey("/10.9.0.1"))])
    #expect(!forgotten.delta.isEmpty)
    #expect(unsettled(forgotten.snapshot, to: "10.9.0.1:80") == ["/10.9.0.1"])
  }

  @Test("a range that holds an address does not say who has it")
  func range() {
    let wide = Service.Record.named("shop/wide.local") {
      $0.prefixes = [NetworkPrefix(network: "", prefix: prefix("10.0.0.0/8"))]
    }
    let mesh = MeshSnapshot(settings: Self.settings).applying([
      .upsertWorkload(Self.source), .upsertService(wide),
    ]).snapshot
    #expect(unsettled(mesh, to: "10.9.0.1:80") == ["/10.9.0.1"])
    #expect(mesh.names(under: MeshKey("/10.9.0.1")) == ["shop/wide.local"])
  }

  @Test("where the whole mesh is loaded nothing is missing")
  func everything() {
    let mesh = MeshSnapshot(MeshSettings(), .upsertWorkload(Self.source))
    #expect(unsettled(mesh, to: "10.9.0.1:80").isEmpty)
  }

  @Test("an inbound request asks for the address it names and its waypoint, or for the host")
  func inbound() {
    let mesh = MeshSnapshot(settings: Self.settings).applying([.upsertWorkload(Self.source)]).snapshot
    func keys(_ mesh: MeshSnapshot, _ authority: String) -> [String] {
      mesh.unsettledKeys(inboundTo: mesh.pod("source"), connectionIP: ip("10.0.0.1"), authority: Array(authority.utf8))
        .map(\.description)
    }
    #expect(keys(mesh, "10.0.0.1:80").isEmpty)
    #expect(keys(mesh, "10.0.0.9:80") == ["/10.0.0.9"])
    #expect(keys(mesh, "cart.local:80") == ["shop/cart.local"])
    let other = Workload.Record.pod("other", "10.0.0.9") { $0.waypoint = .host("shop/way.local") }
    #expect(keys(mesh.applying([.upsertWorkload(other)]).snapshot, "10.0.0.9:80") == ["shop/way.local"])
  }

  @Test("what keys need: what is under them, a service's endpoints, and this node's workloads")
  func needed() {
    let mesh = MeshSnapshot(settings: Self.settings).applying([
      .upsertWorkload(Self.source), .upsertService(.named("shop/cart.local", "/10.9.0.1")),
      .upsertWorkload(.pod("cart", "10.0.0.7").serving("shop/cart.local")), .upsertWorkload(.pod("x", "10.0.0.8")),
    ]).snapshot
    #expect(mesh.names(neededFor: []) == ["c//Pod/shop/source"])
    #expect(
      mesh.names(neededFor: [MeshKey("/10.9.0.1")])
        == ["c//Pod/shop/source", "shop/cart.local", "c//Pod/shop/cart"])
  }
}
