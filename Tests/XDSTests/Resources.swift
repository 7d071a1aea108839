import GRPC
import IstioAPI
import Mesh
import SwiftProtobuf
import Testing
import Vocabulary

@testable import XDS

typealias Response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse
typealias Request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest

/// A resource as it stands in a response.
func resource(_ name: String, _ bytes: [UInt8], version: String = "1") -> Envoy_Service_Discovery_V3_Resource {
  var resource = Envoy_Service_Discovery_V3_Resource()
  resource.name = name
  resource.version = version
  resource.resource.value = .init(bytes)
  return resource
}

func response(
  _ type: ResourceType, _ resources: [Envoy_Service_Discovery_V3_Resource] = [], removed: [String] = [],
  nonce: String = "n"
) -> Response {
  var response = Response()
  response.typeURL = type.rawValue
  response.resources = resources
  response.removedResources = removed
  response.nonce = nonce
  return response
}

func workload(_ uid: String, _ change: (inout Istio_Workload_Workload) -> Void = { _ in }) throws -> [UInt8] {
  var message = Istio_Workload_Address()
  message.workload.uid = uid
  message.workload.name = "w"
  message.workload.namespace = "ns"
  change(&message.workload)
  return try message.serializedBytes()
}

func service(_ change: (inout Istio_Workload_Service) -> Void = { _ in }) throws -> [UInt8] {
  var message = Istio_Workload_Address()
  message.service.name = "s"
  message.service.namespace = "ns"
  message.service.hostname = "s.ns"
  change(&message.service)
  return try message.serializedBytes()
}

func policy(_ name: String, _ change: (inout Istio_Security_Authorization) -> Void = { _ in }) throws -> [UInt8] {
  var message = Istio_Security_Authorization()
  message.name = name
  message.namespace = "ns"
  change(&message)
  return try message.serializedBytes()
}

/// A policy with one match.
func policy(_ name: String, matching change: (inout Istio_Security_Match) -> Void) throws -> [UInt8] {
  try policy(name) { policy in
    var match = Istio_Security_Match()
    change(&match)
    policy.rules = [.with { $0.clauses = [.with { $0.matches = [match] }] }]
  }
}

/// What happens to a subscription, with responses as messages.
enum Event {
  case opened
  case received(Response)
}

extension DeltaSubscription {
  /// Takes a response whole, in portions of `portion` resources.
  mutating func receive(_ event: Event, portion: Int = 2) -> [Action] {
    switch event {
    case .opened: return opened().map(Action.send)
    case .received(let message):
      guard let bytes: [UInt8] = try? message.serializedBytes(), let response = try? DeltaResponse(bytes) else {
        Issue.record("the test's response cannot be encoded")
        return []
      }
      var intake = DeltaIntake(response)
      var actions: [Action] = []
      while !intake.isFinished { actions += take(&intake, atMost: portion) }
      return actions + finish(intake)
    }
  }
}

extension [DeltaSubscription.Action] {
  var requests: [Request] {
    compactMap { action in
      if case .send(let request) = action { request } else { nil }
    }
  }

  var changes: [MeshChange] {
    var all: [MeshChange] = []
    for case .apply(let changes) in self { all += changes }
    return all
  }

  var retained: [RetainedPortion] {
    compactMap { action in
      if case .retain(let portion) = action { portion } else { nil }
    }
  }

  var reports: [String] {
    compactMap { action in
      if case .report(_, let name, _) = action { name } else { nil }
    }
  }
}
