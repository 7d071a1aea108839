import Vocabulary

/// By what a pod's rules tell a host's probe from everything else.
public enum ProbeRecognition: Equatable, Sendable {
  /// By its source, which the node rewrites to an address that nothing else has (redirection.md §8); see ``HostProbes``.
  case rewrittenSource
  /// By a hop limit that only the node's own processes can give their packets, see ``HopLimitMarks``, and by its source,
  /// which is left as it is: one of these, the node's addresses.
  case hopLimit(node: [IPAddress])

  /// What a packet that a process of this node sent has when it arrives in a pod, and no other packet can.
  static let unforgeableHopLimit: UInt8 = 255
}

/// A probe and its answers, as conditions of rules.
struct ProbeConditions {
  let settings: RedirectionSettings
  let family: IPAddress.Family

  /// Packets of a probe that arrive.
  var arriving: [Rule] {
    switch settings.probeRecognition {
    case .rewrittenSource:
      [Rule(source: .host(settings.probeSource(family)), transport: .tcp, target: .returnToCaller)]
    case .hopLimit:
      node.map { address in
        Rule(
          source: .host(address), transport: .tcp,
          matches: [.hopLimit(ProbeRecognition.unforgeableHopLimit, family)], target: .returnToCaller)
      }
    }
  }

  /// Packets that answer one. To the node's own addresses only answers: they are a destination like any other.
  var answering: [Rule] {
    switch settings.probeRecognition {
    case .rewrittenSource:
      [Rule(destination: .host(settings.probeSource(family)), transport: .tcp, target: .returnToCaller)]
    case .hopLimit:
      node.map { Rule(destination: .host($0), transport: .tcp, matches: [.answer], target: .returnToCaller) }
    }
  }

  private var node: [IPAddress] {
    guard case .hopLimit(let node) = settings.probeRecognition else { return [] }
    return node.filter { $0.family == family }
  }
}
