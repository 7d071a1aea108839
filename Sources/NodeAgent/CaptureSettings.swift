import Vocabulary

/// What redirection does inside one namespace: the node's settings with the workload's wishes applied
/// (redirection.md §2).
public struct CaptureSettings: Equatable, Sendable {
  public var dnsCapture: Bool
  public var ipv6: Bool
  /// Ingress mode: connections to the workload are left alone.
  public var bypassInboundCapture: Bool
  /// Interfaces whose traffic is the outbound traffic of nested machines.
  public var rerouteInterfaces: [String]
  /// Where the host's health probes come from.
  public var probeSourceV4: IPAddress
  public var probeSourceV6: IPAddress

  public init(
    dnsCapture: Bool, ipv6: Bool, bypassInboundCapture: Bool = false, rerouteInterfaces: [String] = [],
    probeSourceV4: IPAddress, probeSourceV6: IPAddress
  ) {
    self.dnsCapture = dnsCapture
    self.ipv6 = ipv6
    self.bypassInboundCapture = bypassInboundCapture
    self.rerouteInterfaces = rerouteInterfaces
    self.probeSourceV4 = probeSourceV4
    self.probeSourceV6 = probeSourceV6
  }

  /// These settings with a workload's own wishes.
  public func adjusted(by annotations: CaptureAnnotations) -> CaptureSettings {
    var adjusted = self
    adjusted.dnsCapture = annotations.dnsCapture ?? dnsCapture
    adjusted.bypassInboundCapture = annotations.bypassInboundCapture ?? bypassInboundCapture
    adjusted.rerouteInterfaces = annotations.rerouteInterfaces
    return adjusted
  }
}
