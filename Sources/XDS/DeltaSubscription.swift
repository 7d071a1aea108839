import IstioAPI
import Mesh
import Vocabulary

/// What is known of the control plane's resources and what to tell it next (xds.md §3).
///
/// Pure: it is told of a new stream and of each response, and answers with what to do, in order. It outlives streams,
/// so that a reconnect asks only for what has changed.
public struct DeltaSubscription: Sendable {
  public enum Event: Sendable {
    /// A stream is open and nothing was sent on it.
    case opened
    case received(Envoy_Service_Discovery_V3_DeltaDiscoveryResponse)
  }

  public enum Action: Equatable, Sendable {
    case send(Envoy_Service_Discovery_V3_DeltaDiscoveryRequest)
    /// Make these changes before the next action: an answer says that they are made.
    case apply([MeshChange])
    /// What of a response is known from now on, to be kept for a restart before the next action. A policy that was not
    /// understood, and that something stands in for, is in it as it came.
    case retain(Envoy_Service_Discovery_V3_DeltaDiscoveryResponse)
    /// A resource is not taken; the last good version of it stays. To be logged.
    case report(ResourceType, name: String, ResourceRejection)
    /// A type nobody asked for. To be logged.
    case reportUnknownType(String)
    /// Each type was processed once (xds.md limit 1).
    case ready
  }

  private let node: NodeDescription
  /// Retained resources and the version of each, by type.
  private var versions: [ResourceType: [String: String]] = [:]
  /// Policies that something else stands in for, because they were never understood.
  private var standIns: Set<String> = []
  private var processed: Set<ResourceType> = []

  private let retains: Bool

  /// With `retains` there are ``Action/retain(_:)`` actions.
  public init(node: NodeDescription, retains: Bool = false) {
    self.node = node
    self.retains = retains
  }

  /// Takes what was retained before a restart, and returns the changes that make the mesh of it. The control plane is told
  /// of it on the first stream, and answers with what differs.
  public mutating func restore(_ responses: [Envoy_Service_Discovery_V3_DeltaDiscoveryResponse]) -> [MeshChange] {
    responses.flatMap { response in
      ResourceType(rawValue: response.typeURL).map { take(response, $0).changes } ?? []
    }
  }

  /// Resources retained of a type.
  public func count(of type: ResourceType) -> Int { versions[type]?.count ?? 0 }

  public var isReady: Bool { processed.count == ResourceType.allCases.count }

  public mutating func receive(_ event: Event) -> [Action] {
    switch event {
    case .opened: ResourceType.allCases.map { .send(firstRequest($0)) }
    case .received(let response): respond(to: response)
    }
  }

  /// Subscribes to everything of a type, naming what is held, so that the control plane sends what differs and says what
  /// is gone.
  private func firstRequest(_ type: ResourceType) -> Envoy_Service_Discovery_V3_DeltaDiscoveryRequest {
    var request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest()
    request.node = node.message
    request.typeURL = type.rawValue
    request.initialResourceVersions = versions[type] ?? [:]
    return request
  }

  private mutating func respond(to response: Envoy_Service_Discovery_V3_DeltaDiscoveryResponse) -> [Action] {
    guard let type = ResourceType(rawValue: response.typeURL) else {
      let reason = "\(response.typeURL.prefix(256)): the type was not subscribed to"
      return [.reportUnknownType(response.typeURL), .send(answer(response, rejecting: [reason]))]
    }
    let outcome = take(response, type)
    var actions = outcome.reports
    if retains { actions.append(.retain(outcome.retained)) }
    if !outcome.changes.isEmpty { actions.append(.apply(outcome.changes)) }
    actions.append(.send(answer(response, rejecting: outcome.reasons)))
    let wasReady = isReady
    processed.insert(type)
    if isReady, !wasReady { actions.append(.ready) }
    return actions
  }

  private struct Outcome {
    var changes: [MeshChange] = []
    var reports: [Action] = []
    var reasons: [String] = []
    var retained = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse()

    // What is retained is read with removals last. One name may come several times; the last word counts.

    mutating func retain(_ resource: Envoy_Service_Discovery_V3_Resource) {
      if !retained.removedResources.isEmpty { retained.removedResources.removeAll { $0 == resource.name } }
      retained.resources.append(resource)
    }

    mutating func drop(_ name: String) {
      retained.resources.removeAll { $0.name == name }
      retained.removedResources.append(name)
    }
  }

  /// Takes what is understood of a response.
  private mutating func take(
    _ response: Envoy_Service_Discovery_V3_DeltaDiscoveryResponse, _ type: ResourceType
  ) -> Outcome {
    var outcome = Outcome()
    outcome.retained.typeURL = response.typeURL
    for resource in response.resources {
      let bytes = Array(resource.resource.value)
      do throws(ResourceRejection) {
        guard resource.hasResource else { throw .undecodable }
        outcome.changes.append(try ResourceDecoder.change(type, name: resource.name, bytes: bytes))
        versions[type, default: [:]][resource.name] = resource.version
        outcome.retain(resource)
        if type == .authorization { standIns.remove(resource.name) }
      } catch {
        outcome.reports.append(.report(type, name: resource.name, error))
        outcome.reasons.append("\(resource.name.prefix(512)): \(error.summary)")
        guard type == .authorization, let change = standIn(for: resource.name, bytes) else { continue }
        outcome.changes.append(change)
        if case .removePolicy = change {
          outcome.drop(resource.name)
        } else {
          outcome.retain(resource)
        }
      }
    }
    for name in response.removedResources {
      versions[type]?[name] = nil
      if type == .authorization { standIns.remove(name) }
      outcome.changes.append(type == .address ? .removeAddress(name: name) : .removePolicy(key: name))
    }
    outcome.retained.removedResources += response.removedResources
    return outcome
  }

  /// What is to be in force for a policy that is not understood, unless an earlier version of it was.
  private mutating func standIn(for name: String, _ bytes: [UInt8]) -> MeshChange? {
    guard versions[.authorization]?[name] == nil || standIns.contains(name) else { return nil }
    guard let policy = PolicyStandIn.policy(name: name, bytes: bytes) else {
      guard standIns.remove(name) != nil else { return nil }
      versions[.authorization]?[name] = nil
      return .removePolicy(key: name)
    }
    standIns.insert(name)
    // Retained without a version: the control plane says when it is gone, and sends it again until then.
    versions[.authorization, default: [:]][name] = ""
    return .upsertPolicy(policy)
  }

  /// ACK, or NACK where there are reasons; neither names resources, which would change the subscription.
  private func answer(
    _ response: Envoy_Service_Discovery_V3_DeltaDiscoveryResponse, rejecting reasons: [String]
  ) -> Envoy_Service_Discovery_V3_DeltaDiscoveryRequest {
    var request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest()
    request.typeURL = response.typeURL
    request.responseNonce = response.nonce
    if !reasons.isEmpty {
      let omitted = reasons.count - Self.mostReasons
      request.errorDetail.code = Self.invalidArgument
      request.errorDetail.message =
        reasons.prefix(Self.mostReasons).joined(separator: "; ") + (omitted > 0 ? "; and \(omitted) more" : "")
    }
    return request
  }

  /// google.rpc.Code.
  private static let invalidArgument: Int32 = 3
  /// Reasons told at once.
  private static let mostReasons = 100
}
