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
  private var processed: Set<ResourceType> = []

  public init(node: NodeDescription) { self.node = node }

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
    var changes: [MeshChange] = []
    var reports: [Action] = []
    var reasons: [String] = []
    for resource in response.resources {
      let bytes = Array(resource.resource.value)
      do throws(ResourceRejection) {
        guard resource.hasResource else { throw .undecodable }
        changes.append(try ResourceDecoder.change(type, name: resource.name, bytes: bytes))
        versions[type, default: [:]][resource.name] = resource.version
      } catch {
        reports.append(.report(type, name: resource.name, error))
        reasons.append("\(resource.name.prefix(512)): \(error.summary)")
        if let standIn = standIn(type, name: resource.name, bytes: bytes) {
          changes.append(.upsertPolicy(standIn))
          // Retained without a version: the control plane says when it is gone, and sends it again until then.
          versions[.authorization, default: [:]][resource.name] = ""
        }
      }
    }
    for name in response.removedResources {
      versions[type]?[name] = nil
      changes.append(type == .address ? .removeAddress(name: name) : .removePolicy(key: name))
    }
    var actions = reports
    if !changes.isEmpty { actions.append(.apply(changes)) }
    actions.append(.send(answer(response, rejecting: reasons)))
    let wasReady = isReady
    processed.insert(type)
    if isReady, !wasReady { actions.append(.ready) }
    return actions
  }

  private func standIn(_ type: ResourceType, name: String, bytes: [UInt8]) -> AuthorizationPolicy? {
    guard type == .authorization, versions[type]?[name] == nil else { return nil }
    return PolicyStandIn.policy(name: name, bytes: bytes)
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
