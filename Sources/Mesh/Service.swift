import Vocabulary

/// A named set of endpoints, reached by host name or by virtual address.
///
/// Like a workload it is shared by reference and never changes; its endpoints are kept beside it in the snapshot.
@dynamicMemberLookup
public final class Service: Sendable {
  public let record: Record
  /// The subject alternative names that are SPIFFE identities; others cannot be checked and are left out.
  public let subjectIdentities: [SPIFFEIdentity]
  /// The subject alternative names left out, for a warning.
  public let unusableSubjectNames: [String]

  public init(_ record: Record) {
    self.record = record
    subjectIdentities = record.subjectAltNames.compactMap { SPIFFEIdentity(uri: $0) }
    unusableSubjectNames = record.subjectAltNames.filter { SPIFFEIdentity(uri: $0) == nil }
  }

  // Always inlined, so that a key path the compiler knows becomes a plain load.
  @inlinable @inline(__always)
  public subscript<Value>(dynamicMember member: KeyPath<Record, Value>) -> Value {
    record[keyPath: member]
  }
}

extension Service: Equatable {
  public static func == (left: Service, right: Service) -> Bool {
    left === right || left.record == right.record
  }
}

extension Service {
  /// Who may find a service.
  public enum Visibility: String, Hashable, Sendable, CaseIterable {
    /// Everyone.
    case everywhere
    /// Only clients of the service's own namespace.
    case namespace
  }

  /// Which of a workload's addresses may be used for this service.
  public enum IPFamilies: String, Hashable, Sendable, CaseIterable {
    case automatic, v4Only, v6Only, dual

    func accepts(_ family: IPAddress.Family) -> Bool {
      switch self {
      case .automatic, .dual: true
      case .v4Only: family == .v4
      case .v6Only: family == .v6
      }
    }
  }

  /// The fields of a service (xds.md §5.1).
  public struct Record: Hashable, Sendable {
    public var name = ""
    public var key: NamespacedHostname
    /// Virtual addresses.
    public var addresses: [NetworkAddress] = []
    /// Virtual address ranges.
    public var prefixes: [NetworkPrefix] = []
    /// Service port to target port. Target 0 is a named port: only endpoints that carry it themselves qualify.
    public var ports: [UInt16: UInt16] = [:]
    public var subjectAltNames: [String] = []
    public var waypoint: GatewayReference?
    public var weightedWaypoints: [WeightedWaypoint] = []
    /// Nil is plain weighted random over healthy endpoints.
    public var loadBalancing: LoadBalancing?
    public var ipFamilies = IPFamilies.automatic
    /// Preferred among services of several namespaces with the same host name or address.
    public var isCanonical = false
    public var visibility = Visibility.everywhere

    public init(key: NamespacedHostname) { self.key = key }

    public init(namespace: String, hostname: String) {
      self.init(key: NamespacedHostname(namespace: namespace, hostname: hostname))
    }

    public var namespace: String { key.namespace }
    public var hostname: String { key.hostname }

    var isPassthrough: Bool { loadBalancing?.mode == .passthrough }
  }

  /// True when a client of `namespace` may find this service; nil asks on nobody's behalf.
  func isVisible(to namespace: String?) -> Bool {
    record.visibility == .everywhere || namespace == nil || namespace == record.namespace
  }
}

/// One workload's membership of one service.
public struct Endpoint: Equatable, Sendable {
  public let workload: Workload
  /// Service port to target port of this endpoint.
  public let ports: [UInt16: UInt16]

  /// True when the health policy of `service` lets this endpoint be chosen (services.md §2).
  func isAllowed(by service: Service) -> Bool {
    workload.record.health == .healthy || service.record.loadBalancing?.healthPolicy == .allowAll
  }
}
