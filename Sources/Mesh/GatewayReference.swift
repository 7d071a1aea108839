import Vocabulary

/// Where a waypoint or a network gateway is found (xds.md §5.1, GatewayAddress).
public struct GatewayReference: Hashable, Sendable, CustomStringConvertible {
  /// How the gateway is named.
  public enum Destination: Hashable, Sendable, CustomStringConvertible {
    case hostname(NamespacedHostname)
    case address(NetworkAddress)

    public var description: String {
      switch self {
      case .hostname(let name): name.description
      case .address(let address): address.description
      }
    }
  }

  public var destination: Destination
  /// The port that speaks HBONE: a service port when the gateway is named by a service.
  public var port: UInt16

  public init(_ destination: Destination, port: UInt16) {
    self.destination = destination
    self.port = port
  }

  /// `namespace/hostname:port` or `network/ip:port`.
  public var description: String { "\(destination):\(port)" }
}

/// One entry of a service's weighted waypoints; weight 0 is never chosen (services.md §6).
public struct WeightedWaypoint: Hashable, Sendable {
  public var waypoint: GatewayReference
  public var weight: UInt32

  public init(_ waypoint: GatewayReference, weight: UInt32) {
    self.waypoint = waypoint
    self.weight = weight
  }
}
