import HTTPServer
import Identity
import Mesh
import Vocabulary
import ZDS

/// The document that `istioctl ztunnel-config` reads (observability.md §6), made while it is sent: from one snapshot of
/// the mesh, entry by entry, so that neither its size nor a slow reader matters to anybody.
struct ConfigDump: Sendable {
  /// A pod of this node.
  struct Pod: Sendable {
    let uid: WorkloadUID
    let info: WorkloadInfo
    let isUp: Bool
  }

  let mesh: MeshSnapshot
  /// What the local file says; nil where there is none.
  let staticMesh: MeshSnapshot?
  let certificates: [CertificateStatus]
  let pods: [Pod]
  let connections: [WorkloadUID: [ConnectionSnapshot]]
  let configuration: ZtunnelConfiguration
  let version: JSONValue

  /// Writes the document. Top-level keys are sorted. Throws ``HTTPStreamEnded``.
  func write(to writer: HTTPBodyWriter) async throws(HTTPStreamEnded) {
    try await writer.write("{\n".utf8)
    try await list("certificates", certificates.map { $0 }, writer) { CertificateDump.status($0) }
    try await member("config", config, writer)
    try await list("policies", Self.policies(of: mesh), writer) { MeshDump.policy($0) }
    try await list("services", Self.services(of: mesh), writer) { MeshDump.service($0, in: mesh) }
    let staged = mesh.stagedServices
    try await member(
      "stagedServices",
      .object(
        Dictionary(staged.map { ("\($0)", MeshDump.endpoints(mesh.allEndpoints(of: $0))) }) { first, _ in first }),
      writer)
    try await writeStaticConfig(to: writer)
    try await member("version", version, writer)
    try await entries("workloadState", pods.sorted { $0.uid.description < $1.uid.description }, writer) { pod in
      (pod.uid.description, state(of: pod))
    }
    try await list("workloads", Self.workloads(of: mesh), writer, isLast: true) { MeshDump.workload($0) }
    try await writer.write("}\n".utf8)
  }

  private func writeStaticConfig(to writer: HTTPBodyWriter) async throws(HTTPStreamEnded) {
    let mesh = staticMesh ?? MeshSnapshot()
    try await writer.write("  \"staticConfig\": {\n".utf8)
    try await list("policies", Self.policies(of: mesh), writer, depth: 2) { MeshDump.policy($0) }
    try await list("services", Self.services(of: mesh), writer, depth: 2) { MeshDump.service($0, in: mesh) }
    try await list("workloads", Self.workloads(of: mesh), writer, isLast: true, depth: 2) { MeshDump.workload($0) }
    try await writer.write("  },\n".utf8)
  }

  private static func policies(of mesh: MeshSnapshot) -> [AuthorizationPolicy] {
    mesh.allPolicies.sorted { $0.key < $1.key }
  }

  private static func services(of mesh: MeshSnapshot) -> [Service] {
    mesh.allServices.sorted { ($0.hostname, $0.namespace) < ($1.hostname, $1.namespace) }
  }

  private static func workloads(of mesh: MeshSnapshot) -> [Workload] { mesh.allWorkloads.sorted { $0.uid < $1.uid } }

  private func state(of pod: Pod) -> JSONValue {
    let live = connections[pod.uid] ?? []
    func part(_ isInbound: Bool) -> JSONValue {
      .array(live.filter { ($0.record.direction == .inbound) == isInbound }.map(\.dump))
    }
    return .object([
      "state": pod.isUp ? "Up" : "Pending",
      "info": .object([
        "name": .string(pod.info.name), "namespace": .string(pod.info.namespace),
        "serviceAccount": .string(pod.info.serviceAccount),
      ]),
      "connections": pod.isUp ? .object(["inbound": part(true), "outbound": part(false)]) : nil,
    ])
  }

  private var config: JSONValue {
    var members: [String: JSONValue?] = [:]
    for (name, value) in configuration.describe() { members[name] = .string(value) }
    return .object([
      "adminAddr": .string("localhost:\(configuration.adminPort)"),
      "clusterId": .string(configuration.clusterID),
      "inboundAddr": "[::]:15008",
      "inboundPlaintextAddr": "[::]:15006",
      "localNode": .string(configuration.nodeName ?? ""),
      "network": .string(configuration.network),
      "numWorkerThreads": .integer(Int64(configuration.workerThreads)),
      "outboundAddr": "[::]:15001",
      "packetMark": configuration.packetMark.map { .integer(Int64($0)) },
      "proxyMode": "Shared",
      "readinessAddr": .string("[::]:\(configuration.readinessPort)"),
      "statsAddr": .string("[::]:\(configuration.statsPort)"),
      "inpodUds": .string(configuration.zdsSocketPath),
      // By the names of the variables, secrets left out.
      "environment": .object(members),
    ])
  }

  // MARK: Pieces

  private func member(
    _ name: String, _ value: JSONValue, _ writer: HTTPBodyWriter
  ) async throws(HTTPStreamEnded) {
    var bytes = Array("  \"\(name)\": ".utf8)
    value.append(to: &bytes, depth: 1)
    bytes += ",\n".utf8
    try await writer.write(bytes)
  }

  private func list<Element>(
    _ name: String, _ elements: [Element], _ writer: HTTPBodyWriter, isLast: Bool = false,
    depth: Int = 1, _ value: (Element) -> JSONValue
  ) async throws(HTTPStreamEnded) {
    let indent = String(repeating: "  ", count: depth)
    try await writer.write("\(indent)\"\(name)\": [".utf8)
    for (index, element) in elements.enumerated() {
      var bytes = Array("\(index == 0 ? "" : ",")\n\(indent)  ".utf8)
      value(element).append(to: &bytes, depth: depth + 1)
      try await writer.write(bytes)
    }
    try await writer.write("\(elements.isEmpty ? "" : "\n\(indent)")]\(isLast ? "" : ",")\n".utf8)
  }

  private func entries<Element>(
    _ name: String, _ elements: [Element], _ writer: HTTPBodyWriter, _ entry: (Element) -> (String, JSONValue)
  ) async throws(HTTPStreamEnded) {
    try await writer.write("  \"\(name)\": {".utf8)
    for (index, element) in elements.enumerated() {
      let (key, value) = entry(element)
      var bytes = Array((index == 0 ? "\n    " : ",\n    ").utf8)
      JSONValue.string(key).append(to: &bytes)
      bytes += ": ".utf8
      value.append(to: &bytes, depth: 2)
      try await writer.write(bytes)
    }
    try await writer.write("\(elements.isEmpty ? "" : "\n  ")},\n".utf8)
  }
}
