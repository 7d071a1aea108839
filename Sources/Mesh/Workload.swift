import Vocabulary

/// One thing that sends or receives traffic: a pod, a virtual machine, an external endpoint.
///
/// Every connection holds the workloads it was decided with, so a workload is shared by reference and never changes;
/// an update is another object. The fields themselves are those of ``Record``.
@dynamicMemberLookup
public final class Workload: Sendable {
  public let record: Record
  /// Kept where the workload opens connections itself; built when it is asked for elsewhere.
  private let keptBaggage: String?
  /// Order among workloads that share an address: pods with a tunnel, pods, tunnels, the rest (services.md §1.1).
  let addressRank: UInt8

  /// `isLocal` is true for workloads of this node, whose connections need their baggage.
  public init(_ record: Record, isLocal: Bool = true) {
    self.record = record
    keptBaggage = isLocal ? Baggage(record).text : nil
    addressRank = (record.isPod ? 2 : 0) + (record.tunnelProtocol == .hbone ? 1 : 0)
  }

  /// The identity the workload's certificate carries.
  public var identity: SPIFFEIdentity {
    SPIFFEIdentity(
      trustDomain: record.trustDomain, namespace: record.namespace, serviceAccount: record.serviceAccount)
  }

  /// Text of the `baggage` header that describes this workload (hbone.md §4.1).
  public var baggage: String { keptBaggage ?? Baggage(record).text }

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
}
