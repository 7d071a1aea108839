/// What this proxy knows about itself, apart from the model.
public struct MeshSettings: Hashable, Sendable {
  /// The proxy's own network, env `NETWORK`.
  public var network: String
  /// Env `NODE_NAME`: only workloads of this node are local ones. Nil makes every workload local.
  public var localNode: String?
  /// Adds 15080 to the ports nothing may be sent to.
  public var isSOCKS5Enabled: Bool
  /// Env `LOCALHOST_APP_TUNNEL`: PROXY application tunnels are reached over loopback (services.md §9).
  public var reachesApplicationTunnelsOverLoopback: Bool

  /// Env `XDS_ON_DEMAND`: what is not known may still be there, and has to be asked for.
  public var isOnDemand: Bool

  public init(
    network: String = "", localNode: String? = nil, isSOCKS5Enabled: Bool = false,
    reachesApplicationTunnelsOverLoopback: Bool = true, isOnDemand: Bool = false
  ) {
    self.network = network
    self.localNode = localNode
    self.isSOCKS5Enabled = isSOCKS5Enabled
    self.reachesApplicationTunnelsOverLoopback = reachesApplicationTunnelsOverLoopback
    self.isOnDemand = isOnDemand
  }

  /// The port HBONE is spoken on, always, whatever the workload (hbone.md §1).
  public static let hbonePort: UInt16 = 15008

  /// True for the proxy's own ports: connecting there would come straight back (services.md §6).
  public func isReserved(port: UInt16) -> Bool {
    switch port {
    case 15001, 15006, Self.hbonePort: true
    case 15080: isSOCKS5Enabled
    default: false
    }
  }
}
