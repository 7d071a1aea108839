import Foundation
import Identity
import Synchronization
import Testing
import Vocabulary

@testable import TestSupport

/// Two nodes whose ztunnels know nothing but a control plane's address: a Python process on the right node.
final class ControlPlaneFixture: Sendable {
  /// A type of resource, by the URL's last part.
  enum Kind: String { case address = "workload.Address", policy = "security.Authorization" }

  let network: TestNetwork
  let left: Node
  let right: Node
  let agents: [TestAgent]
  let directory: String
  /// Variables of the proxies, besides the ordinary ones.
  private let environment: [String: String]
  /// The proxies learn addresses as they need them.
  private let isOnDemand: Bool
  /// The most bytes that the control plane takes in one message; nil is gRPC's own limit.
  private let receives: Int?
  private let state = Mutex<[String: [String: Data]]>([Kind.address.url: [:], Kind.policy.url: [:]])
  private let serial = Mutex(0)
  private let process = Mutex<RunningProcess?>(nil)
  private let proxies = Mutex<[RunningProcess]>([])

  static let token = "token-of-this-node"
  private static let port = 15012

  private init(
    _ network: TestNetwork, onDemand: Bool, receives: Int?, _ environment: (String) -> [String: String]
  ) async throws {
    self.network = network
    isOnDemand = onDemand
    self.receives = receives
    directory = "/tmp/ambient-xds-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    self.environment = environment(directory)
    try DevelopmentAuthority.create(in: directory + "/ca")
    (left, right) = (try network.node("left"), try network.node("right"))
    agents = [
      try await TestAgent(socketPath: directory + "/left.sock"),
      try await TestAgent(socketPath: directory + "/right.sock"),
    ]
    try write()
  }

  /// Gives a running mesh to `body`, and takes everything down afterwards.
  static func with(
    token: String = ControlPlaneFixture.token, onDemand: Bool = false, receives: Int? = nil,
    environment: (_ directory: String) -> [String: String] = { _ in [:] },
    _ body: (ControlPlaneFixture) async throws -> Void
  ) async throws {
    await MeshSlots.shared.take()
    defer { MeshSlots.shared.giveBack() }
    try await TestNetwork.with { network in
      let fixture = try await ControlPlaneFixture(network, onDemand: onDemand, receives: receives, environment)
      defer { try? FileManager.default.removeItem(atPath: fixture.directory) }
      do {
        try fixture.write(token: token)
        try fixture.startControlPlane()
        for node in [fixture.left, fixture.right] { try fixture.startZtunnel(on: node) }
        try await body(fixture)
        for proxy in fixture.proxies.withLock({ $0 }) where proxy.isRunning {
          #expect(proxy.terminate(grace: .seconds(10)) == 0, "ztunnel ends in order")
        }
      } catch {
        fixture.printLogs()
        throw error
      }
      try fixture.stopControlPlane()
    }
  }

  private func printLogs() {
    for process in proxies.withLock({ $0 }) + [process.withLock { $0 }].compactMap({ $0 }) {
      print("--- \(process.command.first ?? "")\n\(process.output)\n\(process.errors)")
    }
  }

  /// Writes the proxies' token, with what editors leave at the end of a file.
  func write(token: String) throws {
    try Data("\(token)\n".utf8).write(to: URL(fileURLWithPath: directory + "/token"))
  }

  // MARK: Processes

  func startControlPlane() throws {
    let here = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
    let protos = here.deletingLastPathComponent().deletingLastPathComponent().appending(path: "Sources/IstioAPI/proto")
    let process = try right.spawn(
      [
        GRPCEnvironment.python, here.appending(path: "ControlPlane/control_plane.py").path, "\(right.address(.v4))",
        "\(Self.port)", protos.path, directory + "/ca", directory + "/state.json", Self.token,
      ], environment: receives.map { ["CONTROL_PLANE_RECEIVES": "\($0)"] } ?? [:])
    self.process.withLock { $0 = process }
    try #require(process.waitForLine("serving", within: .seconds(60)) != nil, "the control plane starts")
  }

  func stopControlPlane() throws { try controlPlane.kill() }

  var controlPlane: RunningProcess {
    get throws { try #require(process.withLock { $0 }) }
  }

  /// The proxy of the left node, then the right one's.
  func ztunnel(_ index: Int) -> RunningProcess { proxies.withLock { $0[index] } }

  /// Kills the proxies, as a machine that fails does, and starts them anew.
  func restartZtunnels() throws {
    for proxy in proxies.withLock({ $0 }) { proxy.kill() }
    proxies.withLock { $0 = [] }
    for node in [left, right] { try startZtunnel(on: node) }
  }

  private func startZtunnel(on node: Node) throws {
    let binary = try #require(BuiltProduct.path("ztunnel"), "build the package first")
    let address = "\(right.address(.v4)):\(Self.port)"
    let name = node === left ? "left" : "right"
    let process = try node.spawn(
      [binary],
      environment: [
        "XDS_ADDRESS": address, "CA_ADDRESS": "https://\(address)", "XDS_ROOT_CA": directory + "/ca/root-cert.pem",
        "CA_ROOT_CA": directory + "/ca/root-cert.pem", "AUTH_TOKEN": directory + "/token", "CLUSTER_ID": "west",
        "POD_NAME": "ztunnel-\(name)", "POD_NAMESPACE": "istio-system", "NODE_NAME": name,
        "INPOD_UDS": agents[node === left ? 0 : 1].socketPath, "ZTUNNEL_WORKER_THREADS": "2",
        "RUST_LOG": "info,access=debug", "CONNECTION_TERMINATION_DEADLINE": "2s",
        "XDS_ON_DEMAND": "\(isOnDemand)",
      ].merging(environment.mapValues { $0.replacing("NODE", with: name) }) { $1 })
    proxies.withLock { $0.append(process) }
  }

  // MARK: Resources

  /// Publishes a resource, in protobuf's JSON form.
  func set(_ kind: Kind, _ name: String, _ content: [String: Any]) throws {
    let data = try JSONSerialization.data(withJSONObject: content)
    state.withLock { $0[kind.url]?[name] = data }
    try write()
  }

  /// Publishes bytes that are no resource.
  func setGarbage(_ kind: Kind, _ name: String) throws {
    try set(kind, name, ["raw": Data([0xff, 0xff, 0xff]).base64EncodedString()])
  }

  /// Publishes many addresses at once. Without `awaitingAnswers` it returns when they are on their way.
  func set(addresses: [String: [String: Any]], awaitingAnswers: Bool = true) throws {
    let contents = try addresses.mapValues { try JSONSerialization.data(withJSONObject: $0) }
    state.withLock { $0[Kind.address.url]?.merge(contents) { $1 } }
    try write(awaitingAnswers: awaitingAnswers)
  }

  func remove(_ kind: Kind, _ name: String) throws {
    state.withLock { $0[kind.url]?[name] = nil }
    try write()
  }

  /// Publishes what there is, and returns when both proxies have answered; at once where nobody publishes.
  private func write(awaitingAnswers: Bool = true) throws {
    let resources = try state.withLock { state in
      try state.mapValues { try $0.mapValues { try JSONSerialization.jsonObject(with: $0) } }
    }
    let number = serial.withLock { serial in
      serial += 1
      return serial
    }
    try JSONSerialization.data(withJSONObject: ["serial": number, "resources": resources])
      .write(to: URL(fileURLWithPath: directory + "/state.json"), options: .atomic)
    guard awaitingAnswers, let process = process.withLock({ $0 }), process.isRunning else { return }
    try awaitAnswers(from: process, to: number)
  }

  private func awaitAnswers(from process: RunningProcess, to number: Int) throws {
    for name in ["left", "right"] {
      let line = process.waitForLine("in force \(number) ", "ztunnel-\(name).", within: .seconds(20))
      try #require(line != nil, "the \(name) node answers")
    }
  }

  /// A pod that the control plane describes, redirected and enrolled.
  func pod(_ name: String, on node: Node) async throws -> MeshPod {
    let pod = MeshPod(name: name, serviceAccount: name, pod: try node.pod(name), inMesh: true)
    try describe(pod)
    try await agents[node === left ? 0 : 1].enrol(pod)
    return pod
  }

  /// A pod of the mesh that ztunnel does not serve, for somebody else that speaks HBONE.
  func unservedPod(_ name: String, on node: Node) throws -> MeshPod {
    let pod = MeshPod(name: name, serviceAccount: name, pod: try node.pod(name), inMesh: true)
    try describe(pod)
    return pod
  }

  /// Publishes the pod's workload, an endpoint of `services`, with `waypoint` in front of it.
  func describe(_ pod: MeshPod, services: [String: UInt16] = [:], waypoint: MeshPod? = nil) throws {
    let front: [String: Any] =
      waypoint.map {
        ["waypoint": ["address": ["address": Data($0.pod.ipv4.bytes).base64EncodedString()], "hboneMtlsPort": 15008]]
      } ?? [:]
    try set(
      .address, pod.uid,
      [
        "workload": front.merging([
          "uid": pod.uid, "name": pod.name, "namespace": "demo", "serviceAccount": pod.serviceAccount,
          "node": pod.pod.node === left ? "left" : "right", "tunnelProtocol": "HBONE", "workloadType": "POD",
          "addresses": [IPAddress.Family.v4, .v6].map { Data(pod.pod.address($0).bytes).base64EncodedString() },
          "services": services.mapValues { ["ports": [["servicePort": 80, "targetPort": Int($0)]]] },
        ]) { $1 }
      ])
  }

  /// Publishes a service of port 80.
  func service(_ hostname: String, at address: IPAddress, target: UInt16) throws {
    try set(
      .address, "demo/\(hostname)",
      [
        "service": [
          "name": hostname, "namespace": "demo", "hostname": hostname,
          "addresses": [["address": Data(address.bytes).base64EncodedString()]],
          "ports": [["servicePort": 80, "targetPort": Int(target)]],
        ]
      ])
  }

  /// Publishes a policy of the namespace, about connections from one of `pods`.
  func policy(_ name: String, _ action: String, from pods: MeshPod...) throws {
    let principals = pods.map { ["exact": String($0.identity.dropFirst("spiffe://".count))] }
    try set(
      .policy, "demo/\(name)",
      [
        "name": name, "namespace": "demo", "scope": "NAMESPACE", "action": action,
        "rules": [["clauses": [["matches": [["principals": principals]]]]]],
      ])
  }
}

extension ControlPlaneFixture.Kind {
  var url: String { "type.googleapis.com/istio.\(rawValue)" }
}
