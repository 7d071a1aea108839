/// What a peer says about its workload in the `baggage` header (hbone.md §4.1). Telemetry only: nothing here is
/// authenticated, so nothing is decided by it.
public struct Baggage: Hashable, Sendable {
  /// Longest value kept, in bytes. Longer ones come from no real mesh and would only fill logs and metric labels.
  public static let maximumValueLength = 253

  public var clusterID: String?
  public var namespace: String?
  public var kind: Workload.Kind?
  public var workloadName: String?
  public var canonicalName: String?
  public var canonicalRevision: String?
  public var region: String?
  public var zone: String?

  public init() {}

  /// Describes `workload`.
  public init(_ workload: Workload.Record) {
    clusterID = workload.clusterID
    namespace = workload.namespace
    kind = workload.kind
    workloadName = workload.workloadName
    canonicalName = workload.canonicalName
    canonicalRevision = workload.canonicalRevision
    region = workload.locality.region
    zone = workload.locality.zone
  }

  /// Parses all `baggage` lines of a request in order; nil when one is not visible ASCII, which counts as no baggage.
  public init?(headers: some Sequence<String>) {
    for header in headers {
      guard header.utf8.allSatisfy({ (0x20...0x7e).contains($0) || $0 == 0x09 }) else { return nil }
      for member in header.split(separator: ",", omittingEmptySubsequences: true) {
        let parts = member.split(separator: "=", maxSplits: 2, omittingEmptySubsequences: false)
        guard parts.count >= 2 else { continue }
        set(parts[0], to: parts[1].isEmpty ? nil : String(parts[1].prefix(Self.maximumValueLength)))
      }
    }
  }

  private mutating func set(_ key: Substring, to value: String?) {
    switch key {
    case "k8s.cluster.name": clusterID = value
    case "k8s.namespace.name": namespace = value
    case "service.name": canonicalName = value
    case "service.version": canonicalRevision = value
    case "cloud.region": region = value
    case "cloud.availability_zone": zone = value
    default:
      guard let kind = Workload.Kind.allCases.first(where: { key == "k8s.\($0.rawValue).name" }) else { return }
      self.kind = kind
      workloadName = value
    }
  }

  /// The header value: fields in their fixed order, empty ones left out. A value that could break out of its
  /// field (a comma, an equals sign, a control character) is left out as well.
  public var text: String {
    let fields: [(String, String?)] = [
      ("k8s.cluster.name", clusterID),
      ("k8s.namespace.name", namespace),
      ("k8s.\((kind ?? .deployment).rawValue).name", workloadName),
      ("service.name", canonicalName),
      ("service.version", canonicalRevision),
      ("cloud.region", region),
      ("cloud.availability_zone", zone),
    ]
    return fields.compactMap { key, value in
      guard let value, !value.isEmpty, value.utf8.allSatisfy(Self.isAllowed) else { return nil }
      return "\(key)=\(value)"
    }.joined(separator: ",")
  }

  private static func isAllowed(_ byte: UInt8) -> Bool {
    (0x20...0x7e).contains(byte) && byte != UInt8(ascii: ",") && byte != UInt8(ascii: "=")
  }
}
