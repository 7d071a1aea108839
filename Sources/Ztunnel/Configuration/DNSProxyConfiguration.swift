import DNS
import Vocabulary

/// How the DNS proxy of every pod is set up (dns.md §1).
public struct DNSProxyConfiguration: Sendable, Equatable {
  /// Where it listens inside the pod, UDP and TCP. An IPv6 address is left out where the pod's loopback has none.
  public let addresses: [SocketAddress]

  /// The port that the redirection rules send DNS to.
  public static let standardPort: UInt16 = 15053
}

extension EnvironmentReader {
  /// Nil where `ISTIO_META_DNS_CAPTURE` is set to anything but `true`, in whatever case: serving costs nothing where nobody
  /// is redirected, and being redirected without being served would cost a pod its DNS.
  mutating func dnsProxy(ipv6Enabled: Bool) -> DNSProxyConfiguration? {
    let addresses = dnsProxyAddresses()
    guard value("ISTIO_META_DNS_CAPTURE").map({ $0.lowercased() == "true" }) ?? true else { return nil }
    return DNSProxyConfiguration(addresses: addresses.filter { ipv6Enabled || $0.ip.family == .v4 })
  }

  /// What the mesh answers about names, to the DNS proxy's clients and to those of the SOCKS5 port.
  mutating func meshResolver(ipv6Enabled: Bool) -> MeshResolver {
    let domain = nonEmpty("CLUSTER_DOMAIN", "a domain such as cluster.local") ?? "cluster.local"
    if DomainName(domain)?.hostname == nil || domain.hasSuffix(".") {
      report("CLUSTER_DOMAIN", "must be a domain such as cluster.local, without a dot at the end")
    }
    // The name is Istio's, spelling included.
    let preferred = value("PREFERED_SERVICE_NAMESPACE").flatMap { $0.isEmpty ? nil : $0 }
    return MeshResolver(clusterDomain: domain, preferredNamespace: preferred, answersIPv6: ipv6Enabled)
  }

  private mutating func dnsProxyAddresses() -> [SocketAddress] {
    let name = "ISTIO_META_DNS_PROXY_ADDR"
    func loopback(_ port: UInt16) -> [SocketAddress] {
      IPAddress.Family.allCases.map { SocketAddress(.loopback($0), port) }
    }
    guard let text = value(name) else { return loopback(DNSProxyConfiguration.standardPort) }
    if let address = SocketAddress(text), address.port != 0 { return [address] }
    let host = "localhost:"
    if text.hasPrefix(host), let number = DecimalText.wholeNumber(text.dropFirst(host.count)),
      let port = UInt16(exactly: number), port != 0
    {
      return loopback(port)
    }
    report(name, "must be localhost:PORT or IP:PORT, an IPv6 address in brackets")
    return []
  }
}
