import DNS
import Testing
import Vocabulary

@testable import Ztunnel

@Suite("Configuration of the DNS proxy")
struct DNSConfigurationTests {
  private func whole(_ variables: [String: String]) throws(ConfigurationErrors) -> ZtunnelConfiguration {
    let minimal = ["LOCAL_XDS_PATH": "/etc/ambient/mesh.yaml", "LOCAL_CA_PATH": "/etc/ambient/ca"]
    return try ZtunnelConfiguration(environment: minimal.merging(variables) { $1 }, processorCount: 1)
  }

  private func configuration(_ variables: [String: String]) throws(ConfigurationErrors) -> DNSProxyConfiguration? {
    try whole(variables).dnsProxy
  }

  @Test("is off where the variable is there and is not the word true", arguments: ["", "false", "1", "yes"])
  func off(_ value: String) throws {
    #expect(try configuration(["ISTIO_META_DNS_CAPTURE": value]) == nil)
  }

  @Test("is on otherwise, in both families of loopback", arguments: [nil, "true", "TRUE"] as [String?])
  func on(_ value: String?) throws {
    let proxy = try #require(try configuration(value.map { ["ISTIO_META_DNS_CAPTURE": $0] } ?? [:]))
    #expect(proxy.addresses == ["127.0.0.1:15053", "[::1]:15053"].compactMap { SocketAddress($0) })
    #expect(try whole([:]).meshResolver == MeshResolver(clusterDomain: "cluster.local"))
  }

  @Test("takes its domain, its preferred namespace and the families from the environment")
  func variables() throws {
    let whole = try whole([
      "ISTIO_META_DNS_CAPTURE": "true", "CLUSTER_DOMAIN": "corp.example", "PREFERED_SERVICE_NAMESPACE": "infra",
      "IPV6_ENABLED": "false",
    ])
    #expect(whole.dnsProxy?.addresses == [SocketAddress(.loopback(.v4), 15053)])
    #expect(
      whole.meshResolver
        == MeshResolver(clusterDomain: "corp.example", preferredNamespace: "infra", answersIPv6: false))
  }

  @Test(
    "listens where it is told to",
    arguments: [
      ("localhost:5353", ["127.0.0.1:5353", "[::1]:5353"]), ("127.0.0.2:53", ["127.0.0.2:53"]),
      ("[::1]:5353", ["[::1]:5353"]),
    ])
  func address(_ text: String, _ addresses: [String]) throws {
    let proxy = try configuration(["ISTIO_META_DNS_CAPTURE": "true", "ISTIO_META_DNS_PROXY_ADDR": text])
    #expect(proxy?.addresses == addresses.compactMap { SocketAddress($0) })
  }

  @Test(
    "is refused when it cannot be understood, also while it is off",
    arguments: [
      ("ISTIO_META_DNS_PROXY_ADDR", ""), ("ISTIO_META_DNS_PROXY_ADDR", "localhost"),
      ("ISTIO_META_DNS_PROXY_ADDR", "localhost:0"), ("ISTIO_META_DNS_PROXY_ADDR", "localhost:65536"),
      ("ISTIO_META_DNS_PROXY_ADDR", "example.com:53"), ("ISTIO_META_DNS_PROXY_ADDR", "127.0.0.1:0"),
      ("CLUSTER_DOMAIN", "a..b"), ("CLUSTER_DOMAIN", "cluster.local."), ("CLUSTER_DOMAIN", ""),
    ])
  func refused(_ variable: String, _ value: String) throws {
    let error = #expect(throws: ConfigurationErrors.self) { try configuration([variable: value]) }
    #expect(Set(error?.problems.map(\.variable) ?? []) == [variable])
  }
}
