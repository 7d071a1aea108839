import Testing
import Vocabulary

@testable import NodeAgent

@Suite("Settings of the node agent")
struct NodeAgentConfigurationTests {
  @Test("without any setting, the defaults hold")
  func defaults() throws {
    let configuration = try NodeAgentConfiguration(environment: [:])
    #expect(configuration.socketPath.text == "/var/run/ztunnel/ztunnel.sock")
    #expect(configuration.directory == "/etc/ambient/workloads.d")
    #expect(configuration.reconcileInterval == .seconds(30))
    #expect(!configuration.redirection.dnsCapture)
    #expect(configuration.redirection.ipv6)
    #expect("\(configuration.redirection.probeSourceV4)" == "169.254.7.127")
    #expect("\(configuration.redirection.probeSourceV6)" == "fd16:9254:7127:1337:ffff:ffff:ffff:ffff")
    #expect(!configuration.cleanupOnExit)
  }

  @Test("variables are read, and flags win over them")
  func precedence() throws {
    var flags = NodeAgentConfiguration.Flags()
    flags.socketPath = "/tmp/flag.sock"
    let configuration = try NodeAgentConfiguration(
      flags: flags,
      environment: [
        "ZTUNNEL_UDS_ADDRESS": "/tmp/variable.sock", "WORKLOADS_DIRECTORY": "/tmp/w", "AMBIENT_DNS_CAPTURE": "true",
        "AMBIENT_IPV6": "F", "AMBIENT_RECONCILE_INTERVAL": "1m30s", "HOST_PROBE_SNAT_IP": "10.1.2.3",
        "HOST_PROBE_SNAT_IPV6": "fd00::1",
      ])
    #expect(configuration.socketPath.text == "/tmp/flag.sock")
    #expect(configuration.directory == "/tmp/w")
    #expect(configuration.redirection.dnsCapture)
    #expect(!configuration.redirection.ipv6)
    #expect(configuration.reconcileInterval == .seconds(90))
    #expect("\(configuration.redirection.probeSourceV4)" == "10.1.2.3")
    #expect("\(configuration.redirection.probeSourceV6)" == "fd00::1")
  }

  @Test(
    "a setting that cannot be used is named",
    arguments: [
      ("ZTUNNEL_UDS_ADDRESS", ""), ("ZTUNNEL_UDS_ADDRESS", "/" + String(repeating: "x", count: 200)),
      ("WORKLOADS_DIRECTORY", ""), ("AMBIENT_DNS_CAPTURE", "yes"), ("AMBIENT_IPV6", "on"),
      ("AMBIENT_RECONCILE_INTERVAL", "soon"), ("AMBIENT_RECONCILE_INTERVAL", "0"), ("HOST_PROBE_SNAT_IP", "fd00::1"),
      ("HOST_PROBE_SNAT_IP", "10.0.0"), ("HOST_PROBE_SNAT_IPV6", "10.0.0.1"),
    ])
  func refused(name: String, value: String) {
    let error = #expect(throws: ConfigurationError.self) { try NodeAgentConfiguration(environment: [name: value]) }
    #expect(error?.setting == name)
    #expect(error?.value == value)
  }

  @Test(
    "durations are Istio's",
    arguments: [
      ("30", .seconds(30)), ("500ms", .milliseconds(500)), ("1h30m", .seconds(5400)), ("", nil), ("10", .seconds(10)),
      ("10x", nil), ("s", nil), ("-1s", nil), ("1.5s", nil), ("99999999999s", nil), ("4294967295h", nil),
    ] as [(String, Duration?)])
  func durations(text: String, value: Duration?) {
    #expect(DurationText.parse(text) == value)
  }
}
