import GRPC
import TLS
import Testing

@testable import Ztunnel

@Suite("Configuration: the control plane")
struct ControlPlaneVariablesTests {
  private func configuration(_ variables: [String: String]) throws(ConfigurationErrors) -> ZtunnelConfiguration {
    try ZtunnelConfiguration(environment: variables, processorCount: 1)
  }

  private func problems(_ variables: [String: String]) -> [String] {
    do throws(ConfigurationErrors) {
      _ = try configuration(variables)
      return []
    } catch {
      return error.problems.map(\.variable)
    }
  }

  @Test("addresses are enough: roots and token are where Istio's manifests put them")
  func addresses() throws {
    let configuration = try configuration(["XDS_ADDRESS": "istiod.sys.svc:15012", "CA_ADDRESS": "https://ca:1"])
    let endpoint = try #require(configuration.discovery?.endpoint)
    #expect(endpoint.target.description == "https://istiod.sys.svc:15012")
    #expect(endpoint.roots == .file("./var/run/secrets/istio/root-cert.pem"), "be it there or not")
    #expect(endpoint.credentials.token == .optionalFile("./var/run/secrets/tokens/istio-token"))
    #expect(endpoint.credentials.clusterID == "Kubernetes")
    #expect(configuration.authority?.target.description == "https://ca:1")
    #expect(configuration.localMesh == nil)
  }

  @Test("in Kubernetes both have Istio's own address")
  func kubernetes() throws {
    let configuration = try configuration(["KUBERNETES_SERVICE_HOST": "10.0.0.1"])
    #expect(configuration.discovery?.endpoint.target.description == "https://istiod.istio-system.svc:15012")
    #expect(configuration.authority?.target.description == "https://istiod.istio-system.svc:15012")
  }

  @Test("a local file or directory stands in for an address that is not set, and goes beside one that is")
  func local() throws {
    let local = ["KUBERNETES_SERVICE_HOST": "10.0.0.1", "LOCAL_XDS": "{}", "LOCAL_CA_PATH": "/ca"]
    let alone = try configuration(local)
    #expect(alone.discovery == nil && alone.authority == nil)
    let both = try configuration(local.merging(["XDS_ADDRESS": "a:1", "CA_ADDRESS": "a:1"]) { $1 })
    #expect(both.discovery != nil && both.localMesh == .inline("{}"))
    #expect(both.authority == nil, "the directory goes first")
  }

  @Test("an empty address asks for none, so the local one must be there")
  func empty() {
    #expect(
      problems(["KUBERNETES_SERVICE_HOST": "h", "XDS_ADDRESS": "", "CA_ADDRESS": ""])
        == ["LOCAL_XDS_PATH", "LOCAL_CA_PATH"])
  }

  @Test("names, roots, tokens and headers are read")
  func details() throws {
    let configuration = try configuration([
      "XDS_ADDRESS": "10.0.0.1:1", "CA_ADDRESS": "a:1", "XDS_ROOT_CA": "SYSTEM", "CA_ROOT_CA": "/roots.pem",
      "ALT_XDS_HOSTNAME": "istiod.test", "AUTH_TOKEN": "abc", "XDS_HEADER_X-One": "1", "CLUSTER_ID": "west",
    ])
    let discovery = try #require(configuration.discovery?.endpoint)
    #expect(discovery.roots == .system)
    #expect(discovery.alternativeName == .dns("istiod.test"))
    #expect(discovery.credentials.token == .literal("abc"))
    #expect(discovery.credentials.headers == [.init("x-one", "1")])
    #expect(discovery.credentials.clusterID == "west")
    #expect(configuration.authority?.roots == .file("/roots.pem"))
    #expect(configuration.authority?.credentials.headers == [])
  }

  @Test(
    "what cannot be used stops the start",
    arguments: [
      ("XDS_ADDRESS", "http://a:1"), ("CA_ADDRESS", "a:99999"), ("XDS_ROOT_CA", "-----BEGIN CERTIFICATE-----\nx"),
      ("ALT_CA_HOSTNAME", "a b"), ("XDS_HEADER_x-bin", "1"), ("CA_HEADER_x", "a\nb"),
    ])
  func unusable(_ variable: String, _ value: String) {
    let environment = ["XDS_ADDRESS": "a:1", "CA_ADDRESS": "a:1"].merging([variable: value]) { $1 }
    #expect(problems(environment) == [variable])
  }
}
