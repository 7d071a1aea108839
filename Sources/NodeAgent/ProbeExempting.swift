import Redirection
import Vocabulary

/// Lets the node's own processes reach pods past ztunnel, so that kubelet's probes work under strict mTLS. Its methods
/// block.
public protocol ProbeExempting: Sendable {
  /// Makes these addresses the workload's, and no others. True when that changed anything.
  func exempt(_ addresses: [IPAddress], of owner: String) throws -> Bool
}

extension HostProbes: ProbeExempting {}

/// The rules of the node, outside of any pod, that probes need. Its methods block.
protocol HostProbeRules: Sendable {
  /// Makes them, or mends them. Gives what was written.
  func install() throws(RedirectionError) -> [String]
  /// Takes them away.
  func uninstall() throws(RedirectionError) -> [String]
  /// Forgets the addresses of all other workloads. Gives those it forgot.
  func keepOnly(_ owners: Set<String>) throws(RedirectionError) -> [HostProbes.Member]
}

extension HostProbes: HostProbeRules {}

extension HopLimitMarks: HostProbeRules {
  /// The rules name no pod.
  func keepOnly(_ owners: Set<String>) -> [HostProbes.Member] { [] }
}
