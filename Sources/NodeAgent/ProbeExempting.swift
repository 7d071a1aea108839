import Redirection
import Vocabulary

/// Lets the node's own processes reach pods past ztunnel, so that kubelet's probes work under strict mTLS. Its methods
/// block.
public protocol ProbeExempting: Sendable {
  /// Makes these addresses the workload's, and no others. True when that changed anything.
  func exempt(_ addresses: [IPAddress], of owner: String) throws -> Bool
}

extension HostProbes: ProbeExempting {}
