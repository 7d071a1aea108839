public import IstioAPI
import Mesh

/// What of a response is kept for a restart: the resources whose names are in force, with their versions and contents, and
/// then the names of what is gone.
public typealias RetainedResponse = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse

/// What is kept of a portion of a response, while it is taken.
///
/// A retained response is read with its removals last, and a portion may have a name several times. Of each the last word
/// is kept.
struct RetainedPortion {
  private(set) var response = RetainedResponse()

  init(of type: ResourceType) { response.typeURL = type.rawValue }

  var isEmpty: Bool { response.resources.isEmpty && response.removedResources.isEmpty }

  mutating func keep(_ resource: DeltaResponse.Resource) {
    response.removedResources.removeAll { $0 == resource.name }
    response.resources.append(
      .with {
        $0.name = resource.name
        $0.version = resource.version
        if let value = resource.value { $0.resource.value = .init(value) }
      })
  }

  /// Keeps a policy that `change` stands in for; where nothing does, it is gone.
  mutating func keep(_ resource: DeltaResponse.Resource, standingIn change: MeshChange) {
    if case .removePolicy = change { drop(resource.name) } else { keep(resource) }
  }

  mutating func drop(_ name: String) {
    response.resources.removeAll { $0.name == name }
    response.removedResources.append(name)
  }
}
