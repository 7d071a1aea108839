import Mesh
import Vocabulary

/// What the traffic metrics say of one end of a connection.
struct WorkloadLabels: Hashable, Sendable {
  var workload = ""
  var app = ""
  var canonicalName = ""
  var revision = ""
  var namespace = ""
  var cluster = ""
  var region = ""
  var zone = ""
  /// Only where it is proven, or for a destination, known.
  var principal: SPIFFEIdentity?

  init() {}

  init(_ workload: Workload?, principal: SPIFFEIdentity?) {
    self.principal = principal
    guard let workload else { return }
    self.workload = workload.workloadName
    canonicalName = workload.canonicalName
    app = workload.canonicalName
    revision = workload.canonicalRevision
    namespace = workload.namespace
    cluster = workload.clusterID
    region = workload.locality.region
    zone = workload.locality.zone
  }

  /// What a peer says of itself, and what its certificate proves.
  init(_ baggage: Baggage?, principal: SPIFFEIdentity?) {
    self.principal = principal
    workload = baggage?.workloadName ?? ""
    app = workload
    canonicalName = baggage?.canonicalName ?? ""
    revision = baggage?.canonicalRevision ?? ""
    namespace = principal?.namespace ?? baggage?.namespace ?? ""
    cluster = baggage?.clusterID ?? ""
    region = baggage?.region ?? ""
    zone = baggage?.zone ?? ""
  }
}

/// The labels of the traffic metrics, but for the flag (observability.md §4.1).
struct TrafficLabels: Hashable, Sendable {
  enum Reporter: String, Sendable, CaseIterable {
    case source, destination
  }

  struct ServiceLabels: Hashable, Sendable {
    var host = ""
    var name = ""
    var namespace = ""

    init() {}

    init(_ service: Service?) {
      guard let service else { return }
      host = service.hostname
      name = service.name
      namespace = service.namespace
    }
  }

  var reporter: Reporter
  var source: WorkloadLabels
  var destination: WorkloadLabels
  var service = ServiceLabels()
  var isMutualTLS: Bool

  /// Stands for all that are too many.
  static func overflow(_ reporter: Reporter) -> TrafficLabels {
    var end = WorkloadLabels()
    end.workload = "overflow"
    return TrafficLabels(reporter: reporter, source: end, destination: end, isMutualTLS: false)
  }

  // Equality is of everything; these tell nearly all apart and are quick.
  func hash(into hasher: inout Hasher) {
    hasher.combine(reporter)
    hasher.combine(isMutualTLS)
    hasher.combine(source.workload)
    hasher.combine(source.namespace)
    hasher.combine(destination.workload)
    hasher.combine(destination.namespace)
    hasher.combine(service.host)
  }

  /// In Istio's order.
  func pairs(_ flag: ResponseFlag) -> [(String, String)] {
    [
      ("reporter", reporter.rawValue),
      ("source_workload", source.workload),
      ("source_canonical_service", source.canonicalName),
      ("source_canonical_revision", source.revision),
      ("source_workload_namespace", source.namespace),
      ("source_principal", source.principal?.description ?? ""),
      ("source_app", source.app),
      ("source_version", source.revision),
      ("source_cluster", source.cluster),
      ("destination_service", service.host),
      ("destination_service_namespace", service.namespace),
      ("destination_service_name", service.name),
      ("destination_workload", destination.workload),
      ("destination_canonical_service", destination.canonicalName),
      ("destination_canonical_revision", destination.revision),
      ("destination_workload_namespace", destination.namespace),
      ("destination_principal", destination.principal?.description ?? ""),
      ("destination_app", destination.app),
      ("destination_version", destination.revision),
      ("destination_cluster", destination.cluster),
      ("request_protocol", "tcp"),
      ("response_flags", flag.rawValue),
      ("connection_security_policy", isMutualTLS ? "mutual_tls" : "unknown"),
      ("source_region", source.region),
      ("source_zone", source.zone),
      ("destination_region", destination.region),
      ("destination_zone", destination.zone),
    ]
  }
}
