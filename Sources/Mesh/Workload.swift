import Vocabulary

/// One thing that sends or receives traffic: a pod, a virtual machine, an external endpoint.
///
/// Every connection holds the workloads it was decided with, so a workload is shared by reference and never changes;
/// an update is another object. The fields themselves are those of ``Record``.
@dynamicMemberLookup
public final class Workload: Sendable {
  public let record: Record
  /// The identity the workload's certificate carries.
  public let identity: SPIFFEIdentity
  /// Text of the `baggage` header that describes this workload (hbone.md §4.1).
  public let baggage: String
  /// Order among workloads that share an address: pods with a tunnel, pods, tunnels, the rest (services.md §1.1).
  let addressRank: Int

  public init(_ record: Record) {
    self.record = record
    identity = SPIFFEIdentity(
      trustDomain: record.trustDomain, namespace: record.namespace, serviceAccount: record.serviceAccount)
    baggage = Baggage(record).text
    addressRank = (record.isPod ? 2 : 0) + (record.tunnelProtocol == .hbone ? 1 : 0)
  }

  // Always inlined, so that a key path the compiler knows becomes a plain load.
  @inlinable @inline(__always)
  public subscript<Value>(dynamicMember member: KeyPath<Record, Value>) -> Value {
    record[keyPath: member]
  }
}

extension Workload: Equatable {
  public static func == (left: Workload, right: Workload) -> Bool {
    left === right || left.record == right.record
  }
}

extension Workload {
  /// How traffic to a workload is carried.
  public enum TunnelProtocol: String, Hashable, Sendable, CaseIterable {
    /// Plaintext.
    case none
    case hbone
  }

  public enum NetworkMode: String, Hashable, Sendable, CaseIterable {
    case standard
    /// Shares the node's addresses, so it is not found by address.
    case hostNetwork
  }

  public enum Health: String, Hashable, Sendable, CaseIterable {
    case healthy, unhealthy
  }

  /// What kind of controller owns the workload; telemetry only.
  public enum Kind: String, Hashable, Sendable, CaseIterable {
    case deployment, cronjob, pod, job
  }

  public struct Locality: Hashable, Sendable {
    public var region: String
    public var zone: String
    public var subzone: String

    public init(region: String = "", zone: String = "", subzone: String = "") {
      self.region = region
      self.zone = zone
      self.subzone = subzone
    }
  }

  /// A proxy inside the workload that wants to know the original connection (services.md §9).
  public struct ApplicationTunnel: Hashable, Sendable {
    public enum Wire: String, Hashable, Sendable, CaseIterable {
      /// Bytes only.
      case none
      /// A PROXY protocol v2 header comes first.
      case proxy
    }

    public var wire: Wire
    /// Replaces the target port; nil leaves it.
    public var port: UInt16?

    public init(_ wire: Wire, port: UInt16? = nil) {
      self.wire = wire
      self.port = port
    }
  }

  /// The fields of a workload (xds.md §5.1), with the defaults of that table.
  public struct Record: Hashable, Sendable {
    public static let defaultTrustDomain = "cluster.local"
    public static let defaultServiceAccount = "default"
    public static let defaultClusterID = "Kubernetes"

    /// Primary key.
    public var uid: String
    public var name = ""
    public var namespace = ""
    public var addresses: [IPAddress] = []
    public var network = ""
    public var tunnelProtocol = TunnelProtocol.none
    public var trustDomain = defaultTrustDomain
    public var serviceAccount = defaultServiceAccount
    public var waypoint: GatewayReference?
    public var networkGateway: GatewayReference?
    public var node = ""
    public var canonicalName = ""
    public var canonicalRevision = ""
    public var kind = Kind.deployment
    public var workloadName = ""
    /// The workload speaks HBONE itself.
    public var hasNativeTunnel = false
    /// Names (`namespace/name`) of the policies attached to this workload.
    public var authorizationPolicies: [String] = []
    public var health = Health.healthy
    public var clusterID = defaultClusterID
    /// To be resolved by DNS when there are no addresses.
    public var hostname = ""
    /// The services this workload is an endpoint of, with its own target port for each service port.
    public var services: [NamespacedHostname: [UInt16: UInt16]] = [:]
    public var applicationTunnel: ApplicationTunnel?
    public var locality = Locality()
    public var networkMode = NetworkMode.standard
    /// Weight in load balancing; 0 is never selected.
    public var capacity: UInt32 = 1

    public init(uid: String) { self.uid = uid }

    /// istiod writes `<cluster>//Pod/<namespace>/<name>` for pods.
    public var isPod: Bool { uid.contains("//Pod/") }

    /// The wire says "use the default" with an empty string (xds.md §5.1).
    mutating func applyIdentityDefaults() {
      if trustDomain.isEmpty { trustDomain = Self.defaultTrustDomain }
      if serviceAccount.isEmpty { serviceAccount = Self.defaultServiceAccount }
      if clusterID.isEmpty { clusterID = Self.defaultClusterID }
    }
  }
}
