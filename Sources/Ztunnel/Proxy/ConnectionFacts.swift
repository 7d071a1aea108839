import Mesh
import Vocabulary

/// What is known of a connection beyond its access log: for metrics, and for people who look at live ones.
struct ConnectionFacts {
  enum Carriage: String, Sendable {
    case tcp = "TCP"
    case hbone = "HBONE"
    case doubleHBONE = "DOUBLEHBONE"
  }

  enum PlaintextReason: String, Sendable {
    case unknownDestination = "the destination is not in the mesh"
    case noTunnelProtocol = "the destination does not speak HBONE"
    case plaintextPeer = "the peer sent plaintext"
  }

  enum OriginalDestination: Sendable, CustomStringConvertible {
    case address(SocketAddress)
    case hostname(String)

    /// Nil for a name.
    var address: SocketAddress? {
      if case .address(let address) = self { address } else { nil }
    }

    var description: String {
      switch self {
      case .address(let address): "\(address)"
      case .hostname(let name): name
      }
    }
  }

  var labels: TrafficLabels
  var carriage: Carriage
  /// Why it is in plaintext; nil when it is not.
  var plaintext: PlaintextReason?
  /// Where the client wanted to go; nil when it is not known.
  var original: OriginalDestination?
  /// Where it goes.
  var actual: SocketAddress
  /// Who is there is learnt only when it answers.
  var isDestinationPending = false
}

extension Upstream {
  /// What is known of a connection from the pod of `source` to here, which the client meant for `original`.
  func facts(from source: Workload, to original: SocketAddress) -> ConnectionFacts {
    func labels(_ workload: Workload?, _ service: Service?, isTunnel: Bool, pending: Bool = false) -> TrafficLabels {
      TrafficLabels(
        reporter: .source, source: WorkloadLabels(source, principal: isTunnel ? source.identity : nil),
        destination: pending ? WorkloadLabels() : WorkloadLabels(workload, principal: workload?.identity),
        service: .init(service), isMutualTLS: isTunnel)
    }
    switch self {
    case .plain(let address, let workload, let service):
      let reason = workload == nil ? ConnectionFacts.PlaintextReason.unknownDestination : .noTunnelProtocol
      return ConnectionFacts(
        labels: labels(workload, service, isTunnel: false), carriage: .tcp, plaintext: reason,
        original: .address(original), actual: address)
    case .tunnel(let route):
      return ConnectionFacts(
        labels: labels(route.workload, route.service, isTunnel: true), carriage: .hbone,
        original: .address(original), actual: route.nextHop)
    case .doubleTunnel(let route):
      return ConnectionFacts(
        labels: labels(nil, route.service, isTunnel: true, pending: true), carriage: .doubleHBONE,
        original: .address(original), actual: route.outer.nextHop, isDestinationPending: true)
    }
  }
}
