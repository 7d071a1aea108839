import Vocabulary

/// What to do with one outbound connection (services.md §6).
public enum OutboundDecision: Equatable, Sendable {
  /// Plain TCP to the address the client asked for; nothing is known about what is there. `service` is set when the
  /// address belongs to a passthrough service.
  case passthrough(SocketAddress, service: Service?)
  /// Plain TCP to a known workload.
  case plain(PlainRoute)
  /// HBONE to the workload or to a waypoint.
  case tunnel(TunnelRoute)
  /// HBONE inside HBONE, through the gateway of another network.
  case doubleTunnel(DoubleTunnelRoute)
  /// The next hop has only a host name: resolve it and ask ``NameResolution/completed(with:)``, or refuse.
  case needsResolution(NameResolution)
  case refused(RouteRefusal)
}

public struct PlainRoute: Equatable, Sendable {
  public let destination: SocketAddress
  public let workload: Workload
  /// The service the workload was chosen from.
  public let service: Service?
}

public struct TunnelRoute: Equatable, Sendable {
  /// Where to connect.
  public let nextHop: SocketAddress
  /// What `:authority` says.
  public let authority: TunnelAuthority
  /// Any one of these must be proved by the server: the next hop's own identity, then the service's subject names.
  public let expectedIdentities: [SPIFFEIdentity]
  /// The workload at the next hop: the destination, a waypoint or a gateway.
  public let workload: Workload
  /// The service the client addressed or the destination was chosen from; for labels and the `forwarded` header.
  public let service: Service?
  public let isViaWaypoint: Bool
}

/// Both tunnels of hbone.md §11.
public struct DoubleTunnelRoute: Equatable, Sendable {
  /// To the gateway.
  public let outer: TunnelRoute
  /// The same authority goes into the inner request.
  public var innerAuthority: TunnelAuthority { outer.authority }
  /// Subject names of the service only; never empty.
  public let innerExpectedIdentities: [SPIFFEIdentity]
  /// Value of `x-forwarded-network` on the inner request.
  public let forwardedNetwork: String
  /// What was chosen on the other network: the destination or its waypoint.
  public let workload: Workload
  public let service: Service
  public let isViaWaypoint: Bool
}

/// A route whose next hop has a host name and no address (services.md §5.1).
public struct NameResolution: Equatable, Sendable {
  public let hostname: String
  /// Answers of this family are preferred, the others accepted.
  public let preferredFamily: IPAddress.Family
  public let workload: Workload
  public let service: Service?
  let hop: Hop

  /// The decision once the host name has an address.
  public func completed(with ip: IPAddress) -> OutboundDecision { hop.decision(at: ip) }

  /// The refusal to report when it has none.
  public var refusal: RouteRefusal { .unresolvedHostname(workload: workload.uid, hostname: hostname) }
}

/// All of a route but the IP of its next hop.
struct Hop: Equatable, Sendable {
  enum Carriage: Equatable, Sendable {
    case plain
    /// HBONE straight to the workload; the authority is the chosen IP and the hop's port.
    case direct
    case waypoint(authority: TunnelAuthority)
    case gateway(authority: TunnelAuthority, inner: Inner)
  }

  struct Inner: Equatable, Sendable {
    var expectedIdentities: [SPIFFEIdentity]
    var forwardedNetwork: String
    var workload: Workload
    var service: Service
    var isViaWaypoint: Bool
  }

  var carriage: Carriage
  var port: UInt16
  var expectedIdentities: [SPIFFEIdentity]
  var workload: Workload
  var service: Service?

  func decision(at ip: IPAddress) -> OutboundDecision {
    switch carriage {
    case .plain:
      .plain(PlainRoute(destination: SocketAddress(ip, port), workload: workload, service: service))
    case .direct:
      .tunnel(
        tunnel(
          to: SocketAddress(ip, MeshSettings.hbonePort), authority: .address(SocketAddress(ip, port)),
          isViaWaypoint: false))
    case .waypoint(let authority):
      .tunnel(tunnel(to: SocketAddress(ip, port), authority: authority, isViaWaypoint: true))
    case .gateway(let authority, let inner):
      .doubleTunnel(
        DoubleTunnelRoute(
          outer: tunnel(to: SocketAddress(ip, port), authority: authority, isViaWaypoint: false),
          innerExpectedIdentities: inner.expectedIdentities, forwardedNetwork: inner.forwardedNetwork,
          workload: inner.workload, service: inner.service, isViaWaypoint: inner.isViaWaypoint))
    }
  }

  private func tunnel(to nextHop: SocketAddress, authority: TunnelAuthority, isViaWaypoint: Bool) -> TunnelRoute {
    TunnelRoute(
      nextHop: nextHop, authority: authority, expectedIdentities: expectedIdentities, workload: workload,
      service: service, isViaWaypoint: isViaWaypoint)
  }
}
