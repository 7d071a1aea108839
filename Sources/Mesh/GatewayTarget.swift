import Vocabulary

/// What a gateway reference stands for (services.md §7).
enum GatewayTarget {
  case service(Service)
  case workload(Workload)
}

extension MeshSnapshot {
  /// What `reference` names. Visibility to `clientNamespace` counts for the address form only; nil asks on nobody's
  /// behalf.
  func target(of reference: GatewayReference, clientNamespace: String?) -> GatewayTarget? {
    switch reference.destination {
    case .hostname(let key):
      return services[key].map(GatewayTarget.service) ?? workload(hostname: key).map(GatewayTarget.workload)
    case .address(let address):
      return service(at: address, clientNamespace: clientNamespace).map(GatewayTarget.service)
        ?? workload(at: address).map(GatewayTarget.workload)
    }
  }

  /// True when `workload` is the gateway that `reference` names, or an endpoint of it.
  func gateway(_ reference: GatewayReference, clientNamespace: String?, is workload: Workload) -> Bool {
    switch target(of: reference, clientNamespace: clientNamespace) {
    case .service(let service): workload.services[service.key] != nil
    case .workload(let gateway): gateway.uid == workload.uid
    case nil: false
    }
  }
}
