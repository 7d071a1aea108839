import Testing

@testable import Ztunnel

@Suite("Proxy configuration")
struct ProxyConfigTests {
  private let minimal = ["LOCAL_XDS_PATH": "/etc/ambient/mesh.yaml", "LOCAL_CA_PATH": "/etc/ambient/ca"]

  private func configuration(
    _ variables: [String: String], meshFile: String? = nil, minimal: [String: String]? = nil
  ) throws(ConfigurationErrors) -> ZtunnelConfiguration {
    try ZtunnelConfiguration(
      environment: (minimal ?? self.minimal).merging(variables) { $1 }, processorCount: 8, meshFile: meshFile)
  }

  @Test("ports and threads are taken over, from YAML and from JSON")
  func values() throws {
    for text in [
      "{proxyAdminPort: 1, statsPort: 2, concurrency: 3}", "proxyAdminPort: 1\nstatsPort: '2'\nconcurrency: 3",
    ] {
      let configuration = try configuration(["PROXY_CONFIG": text])
      #expect(configuration.adminPort == 1 && configuration.statsPort == 2 && configuration.workerThreads == 3)
    }
    let standard = try configuration([:])
    #expect(standard.adminPort == 15000 && standard.statsPort == 15020)
  }

  @Test("threads: 0 is one for each CPU, and a variable of its own goes first")
  func concurrency() throws {
    #expect(try configuration(["PROXY_CONFIG": "concurrency: 0"]).workerThreads == 8)
    #expect(
      try configuration(["PROXY_CONFIG": "concurrency: 3", "ZTUNNEL_WORKER_THREADS": "5"]).workerThreads == 5)
  }

  @Test("the address stands in for those of the control plane that are not set")
  func address() throws {
    let text = "discoveryAddress: istiod.sys.svc:15012"
    let both = try configuration(["PROXY_CONFIG": text], minimal: [:])
    #expect(both.discovery?.endpoint.target.description == "https://istiod.sys.svc:15012")
    #expect(both.authority?.target.description == "https://istiod.sys.svc:15012")
    let own = try configuration(["PROXY_CONFIG": text, "XDS_ADDRESS": "other:1"], minimal: [:])
    #expect(own.discovery?.endpoint.target.description == "https://other:1")
    #expect(try configuration(["PROXY_CONFIG": text]).discovery == nil, "a local file stands in for it")
  }

  @Test("metadata says what variables say, with or without their prefix, and variables go first")
  func metadata() throws {
    let text = "proxyMetadata: {ISTIO_META_DNS_CAPTURE: false, CLUSTER_ID: west, NUMBER: 1.50}"
    let configuration = try configuration(["PROXY_CONFIG": text, "XDS_ADDRESS": "a:1", "CA_ADDRESS": ""])
    #expect(configuration.dnsProxy == nil)
    #expect(configuration.clusterID == "west")
    let node = try #require(configuration.discovery?.node)
    #expect(
      node
        == .init(environment: [
          "ISTIO_META_DNS_CAPTURE": "false", "ISTIO_META_CLUSTER_ID": "west", "ISTIO_META_NUMBER": "1.50",
        ]), "a number is told as it is written")
    let over = try self.configuration(["PROXY_CONFIG": text, "ISTIO_META_CLUSTER_ID": "east"])
    #expect(over.clusterID == "east")
  }

  @Test("the variable goes before the mesh file, key by key")
  func meshFile() throws {
    let file = """
      # Istio's own, of which most is for others
      trustDomain: cluster.local
      defaultConfig:
        statsPort: 1
        proxyAdminPort: 2
        tracing: {}
        proxyMetadata: {A: file, B: file}
      """
    let configuration = try configuration(
      ["PROXY_CONFIG": "{statsPort: 3, proxyMetadata: {B: variable}}", "XDS_ADDRESS": "a:1"], meshFile: file)
    #expect(configuration.statsPort == 3 && configuration.adminPort == 2)
    #expect(
      configuration.discovery?.node == .init(environment: ["ISTIO_META_A": "file", "ISTIO_META_B": "variable"]))
  }

  @Test(
    "what says nothing changes nothing", arguments: ["", "{}", "~", "# nothing", "proxyMetadata:", "statsPort: null"])
  func empty(_ text: String) throws {
    #expect(try configuration(["PROXY_CONFIG": text]) == configuration([:]))
    #expect(try configuration([:], meshFile: text) == configuration([:]))
  }

  @Test(
    "what cannot be understood is refused, with its place",
    arguments: [
      ("[1]", "must be a mapping"), ("{", "is not YAML"), ("statsPort: 0", "line 1, column 12: statsPort"),
      ("statsPort: 65536", "statsPort"), ("concurrency: many", "concurrency"), ("proxyMetadata: x", "mapping of texts"),
      ("proxyMetadata: {a: {}}", "mapping of texts"), ("discoveryAddress: []", "must be text"),
      ("a: &b {}\nc: *b", "is not YAML"),
    ])
  func refused(_ text: String, _ reason: String) throws {
    let variable = #expect(throws: ConfigurationErrors.self) { try configuration(["PROXY_CONFIG": text]) }
    #expect(variable?.problems.map(\.variable) == ["PROXY_CONFIG"])
    #expect(variable?.problems.first?.reason.contains(reason) == true, "\(String(describing: variable))")
    let nested = "defaultConfig:\n" + text.split(separator: "\n").map { "  " + $0 }.joined(separator: "\n")
    let file = #expect(throws: ConfigurationErrors.self) { try configuration([:], meshFile: nested) }
    #expect(file?.problems.map(\.variable) == ["./etc/istio/config/mesh"])
  }
}

@Suite("Configuration: security and snapshots")
struct SecurityVariablesTests {
  private func configuration(_ variables: [String: String]) throws(ConfigurationErrors) -> ZtunnelConfiguration {
    try ZtunnelConfiguration(
      environment: ["LOCAL_XDS": "{}", "LOCAL_CA_PATH": "/ca"].merging(variables) { $1 }.filter { $0.value != "-" },
      processorCount: 1)
  }

  @Test("profiles of TLS")
  func profiles() throws {
    #expect(try configuration([:]).tlsProfile == .standard)
    #expect(try configuration(["TLS12_ENABLED": "true"]).tlsProfile.allowsTLS12)
    #expect(try configuration(["COMPLIANCE_POLICY": "fips-140-2"]).tlsProfile.keyExchange == .approvedCurves)
    #expect(try configuration(["CRL_PATH": "/crl.pem"]).revocationListPath == "/crl.pem")
  }

  @Test("an agent's socket takes the place of the other authorities")
  func agent() throws {
    for text in ["unix:///run/agent.sock", "unix:/run/agent.sock"] {
      let configuration = try configuration(["SPIFFE_ENDPOINT_SOCKET": text, "LOCAL_CA_PATH": "-"])
      #expect(configuration.spiffeAgent?.path == "/run/agent.sock")
      #expect(configuration.spiffeAgent?.headers == [.workloadAPI])
      #expect(configuration.authority == nil && configuration.localCAPath == nil)
    }
  }

  @Test("snapshots need a key, from a file or from systemd")
  func snapshots() throws {
    let own = try configuration([
      "AMBIENT_SNAPSHOT_PATH": "/var/lib/a", "AMBIENT_SNAPSHOT_KEY": "/key", "AMBIENT_SNAPSHOT_CERTIFICATES": "false",
      "AMBIENT_SNAPSHOT_MAX_AGE": "2h",
    ])
    #expect(
      own.snapshot
        == SnapshotConfiguration(
          directory: "/var/lib/a", keyPath: "/key", maximumAge: .seconds(7200), keepsCertificates: false))
    let credential = try configuration(["AMBIENT_SNAPSHOT_PATH": "/var/lib/a", "CREDENTIALS_DIRECTORY": "/run/c"])
    #expect(credential.snapshot?.keyPath == "/run/c/ambient-snapshot-key")
    #expect(credential.snapshot?.keepsCertificates == true)
    #expect(try configuration([:]).snapshot == nil)
  }

  @Test(
    "what cannot be used stops the start",
    arguments: [
      ["COMPLIANCE_POLICY": "pcq"], ["TLS12_ENABLED": "yes"], ["AMBIENT_SNAPSHOT_PATH": "/a"],
      ["SPIFFE_ENDPOINT_SOCKET": "tcp://127.0.0.1:1", "LOCAL_CA_PATH": "-"],
      ["SPIFFE_ENDPOINT_SOCKET": "unix:run/agent.sock", "LOCAL_CA_PATH": "-"],
      ["SPIFFE_ENDPOINT_SOCKET": "unix:///run/agent.sock"],
      ["SPIFFE_ENDPOINT_SOCKET": "unix:///run/agent.sock", "LOCAL_CA_PATH": "-", "CA_ADDRESS": "a:1"],
    ])
  func refused(_ variables: [String: String]) {
    let error = #expect(throws: ConfigurationErrors.self) { try configuration(variables) }
    #expect(error?.problems.count == 1, "\(String(describing: error))")
  }
}
