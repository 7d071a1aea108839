import Vocabulary

/// What one namespace's redirection is made from (redirection.md §2).
public struct RedirectionSettings: Equatable, Sendable {
  /// Source address of host probes when nothing else is configured (redirection.md §1).
  public static let defaultProbeSourceV4 = IPAddress.v4(0xa9fe_077f)
  /// The IPv6 twin of ``defaultProbeSourceV4``.
  public static let defaultProbeSourceV6 = IPAddress.v6(0xfd16_9254_7127_1337, 0xffff_ffff_ffff_ffff)

  /// DNS queries to other than loopback resolvers go to ztunnel's port 15053.
  public var dnsCapture: Bool
  /// The IPv6 twin of everything. When false, what an earlier run left for IPv6 is removed.
  public var ipv6: Bool
  /// "Ingress mode": inbound plaintext is left alone. HBONE on 15008 still works.
  public var bypassInboundCapture: Bool
  /// TCP that enters through these interfaces is outbound traffic (nested virtual machines, containers).
  public var rerouteInterfaces: [InterfaceName]
  /// Counts the packets that leave the pod past ztunnel. Capture does not depend on it; the reference knows no such rules.
  public var countsEscapes: Bool
  /// Drops what would open a connection past ztunnel, in either direction, so that it is tried again once capture is
  /// whole.
  public var stopsEscapes: Bool
  /// The kernel can tell what the pod's own processes send. Where it cannot, what they open is not stopped.
  var tellsSenders = true
  /// How host probes are told apart.
  public var probeRecognition: ProbeRecognition
  /// The address that marks a host probe, which is never captured. An IPv4 address.
  public var probeSourceV4: IPAddress
  /// The address that marks a host probe, which is never captured. An IPv6 address.
  public var probeSourceV6: IPAddress

  public init(
    dnsCapture: Bool = false, ipv6: Bool = true, bypassInboundCapture: Bool = false,
    rerouteInterfaces: [InterfaceName] = [], countsEscapes: Bool = false, stopsEscapes: Bool = false,
    probeRecognition: ProbeRecognition = .rewrittenSource,
    probeSourceV4: IPAddress = Self.defaultProbeSourceV4,
    probeSourceV6: IPAddress = Self.defaultProbeSourceV6
  ) {
    self.dnsCapture = dnsCapture
    self.ipv6 = ipv6
    self.bypassInboundCapture = bypassInboundCapture
    self.rerouteInterfaces = rerouteInterfaces
    self.probeRecognition = probeRecognition
    self.countsEscapes = countsEscapes
    self.stopsEscapes = stopsEscapes
    self.probeSourceV4 = probeSourceV4
    self.probeSourceV6 = probeSourceV6
  }

  /// The probe address of a family.
  func probeSource(_ family: IPAddress.Family) -> IPAddress {
    switch family {
    case .v4: probeSourceV4
    case .v6: probeSourceV6
    }
  }

  /// The same without what this kernel cannot do and capture can do without. Throws what ``validate()`` throws.
  func ofThisKernel() throws(RedirectionError) -> RedirectionSettings {
    try validate()
    var settings = self
    settings.tellsSenders = !stopsEscapes || KernelExtensions.knowsSenders
    return settings
  }

  /// Throws ``RedirectionError/probeSourceOfWrongFamily(address:family:)``: a probe address of the other family would
  /// become a rule that exempts nothing, or everything.
  func validate() throws(RedirectionError) {
    for family in IPAddress.Family.allCases where probeSource(family).family != family {
      throw .probeSourceOfWrongFamily(address: probeSource(family), family: family)
    }
  }
}
