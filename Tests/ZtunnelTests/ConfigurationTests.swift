import Linux
import Testing
import Vocabulary

@testable import Ztunnel

/// The least an environment must say.
private let minimal = ["LOCAL_XDS_PATH": "/etc/ambient/mesh.yaml", "LOCAL_CA_PATH": "/etc/ambient/ca"]

private func configuration(
  _ variables: [String: String] = [:], processors: Int = 4
) throws(ConfigurationErrors) -> ZtunnelConfiguration {
  try ZtunnelConfiguration(
    environment: minimal.merging(variables) { $1 }, processorCount: processors)
}

/// What is wrong with an environment.
private func problems(_ variables: [String: String], without removed: [String] = []) -> [ConfigurationProblem] {
  var environment = minimal.merging(variables) { $1 }
  for name in removed { environment[name] = nil }
  do throws(ConfigurationErrors) {
    _ = try ZtunnelConfiguration(environment: environment, processorCount: 4)
    return []
  } catch {
    return error.problems
  }
}

/// One value of one variable, and what it makes of the configuration.
struct Reading: Sendable, CustomTestStringConvertible {
  let variable: String
  let value: String
  let isAsExpected: @Sendable (ZtunnelConfiguration) -> Bool

  init<Value: Equatable & Sendable>(
    _ variable: String, _ value: String, _ property: any KeyPath<ZtunnelConfiguration, Value> & Sendable,
    _ expected: Value
  ) {
    self.variable = variable
    self.value = value
    isAsExpected = { $0[keyPath: property] == expected }
  }

  var testDescription: String { "\(variable)=\(value)" }
}

@Suite("Configuration")
struct ConfigurationTests {
  @Test("an environment that says the least gives the documented defaults")
  func defaults() throws {
    let configuration = try configuration()
    #expect(configuration.nodeName == nil)
    #expect(configuration.network == "")
    #expect(configuration.clusterID == "Kubernetes")
    #expect(configuration.zdsSocketPath == "/var/run/ztunnel/ztunnel.sock")
    #expect(configuration.workerThreads == 2)
    #expect(configuration.packetMark == 1337)
    #expect(configuration.sharesPorts)
    #expect(configuration.preservesSource == .auto)
    #expect(configuration.ipv6Enabled)
    #expect(
      configuration.keepAlive
        == TCPKeepAlive(idle: 180, interval: 180, probes: 9, limitsUnacknowledgedData: false))
    #expect(configuration.streamWindow == 4_194_304)
    #expect(configuration.connectionWindow == 16_777_216)
    #expect(configuration.maxFrameSize == 1_048_576)
    #expect(configuration.poolMaxStreams == 100)
    #expect(configuration.poolIdleTimeout == .seconds(300))
    #expect(configuration.terminationDeadline == .seconds(5))
    #expect(configuration.respondsWithBaggage)
    #expect(configuration.localMesh == .file("/etc/ambient/mesh.yaml"))
    #expect(configuration.localCAPath == "/etc/ambient/ca")
    #expect(configuration.certificateTTL == .seconds(86_400))
    #expect(!configuration.socks5Enabled)
    #expect(configuration.localhostApplicationTunnel)
    #expect(!configuration.logsPolicyAtInfo)
    #expect(configuration.logFilter == nil)
    #expect(configuration.logFormat == nil)
    #expect(configuration.readinessPort == 15021)
    #expect(configuration.statsPort == 15020)
    #expect(configuration.adminPort == 15000)
  }

  static let readings: [Reading] = [
    Reading("NODE_NAME", "worker-1", \.nodeName, "worker-1"),
    Reading("NETWORK", "net-a", \.network, "net-a"),
    Reading("NETWORK", "", \.network, ""),
    Reading("CLUSTER_ID", "west", \.clusterID, "west"),
    Reading("ISTIO_META_CLUSTER_ID", "east", \.clusterID, "east"),
    Reading("INPOD_UDS", "/run/z.sock", \.zdsSocketPath, "/run/z.sock"),
    Reading("INPOD_UDS", "/" + String(repeating: "a", count: 106), \.zdsSocketPath.utf8.count, 107),
    Reading("PACKET_MARK", "0", \.packetMark, nil),
    Reading("PACKET_MARK", "4294967295", \.packetMark, 4_294_967_295),
    Reading("INPOD_PORT_REUSE", "false", \.sharesPorts, false),
    Reading("INPOD_PORT_REUSE", "true", \.sharesPorts, true),
    Reading("ENABLE_ORIG_SRC", "true", \.preservesSource, .required),
    Reading("ENABLE_ORIG_SRC", "false", \.preservesSource, .off),
    Reading("IPV6_ENABLED", "false", \.ipv6Enabled, false),
    Reading("KEEPALIVE_ENABLED", "false", \.keepAlive, nil),
    Reading("KEEPALIVE_TIME", "1m30s", \.keepAlive?.idle, 90),
    Reading("KEEPALIVE_TIME", "1500ms", \.keepAlive?.idle, 2),
    Reading("KEEPALIVE_TIME", "32767", \.keepAlive?.idle, 32767),
    Reading("KEEPALIVE_INTERVAL", "75s", \.keepAlive?.interval, 75),
    Reading("KEEPALIVE_RETRIES", "127", \.keepAlive?.probes, 127),
    Reading("USER_TIMEOUT_ENABLED", "true", \.keepAlive?.limitsUnacknowledgedData, true),
    Reading("HTTP2_STREAM_WINDOW_SIZE", "65535", \.streamWindow, 65535),
    Reading("HTTP2_STREAM_WINDOW_SIZE", "2147483647", \.streamWindow, Int32.max),
    Reading("HTTP2_CONNECTION_WINDOW_SIZE", "1048576", \.connectionWindow, 1_048_576),
    Reading("HTTP2_FRAME_SIZE", "16384", \.maxFrameSize, 16384),
    Reading("HTTP2_FRAME_SIZE", "16777215", \.maxFrameSize, 16_777_215),
    Reading("POOL_MAX_STREAMS_PER_CONNECTION", "1", \.poolMaxStreams, 1),
    Reading("POOL_MAX_STREAMS_PER_CONNECTION", "65535", \.poolMaxStreams, 65535),
    Reading("POOL_UNUSED_RELEASE_TIMEOUT", "0", \.poolIdleTimeout, .zero),
    Reading("POOL_UNUSED_RELEASE_TIMEOUT", "1h30m", \.poolIdleTimeout, .seconds(5400)),
    Reading("ENABLE_RESPONSE_BAGGAGE", "false", \.respondsWithBaggage, false),
    Reading("LOCAL_CA_PATH", "./ca", \.localCAPath, "./ca"),
    Reading("SECRET_TTL", "12h", \.certificateTTL, .seconds(43_200)),
    Reading("SECRET_TTL", "86400", \.certificateTTL, .seconds(86_400)),
    Reading("LOCALHOST_APP_TUNNEL", "false", \.localhostApplicationTunnel, false),
    Reading("AUTHZ_POLICY_INFO_LOGGING", "true", \.logsPolicyAtInfo, true),
    Reading("RUST_LOG", "info,access=debug", \.logFilter, "info,access=debug"),
    Reading("RUST_LOG", " ", \.logFilter, nil),
    Reading("LOG_FORMAT", "json", \.logFormat, "json"),
  ]

  @Test("a variable changes the property it is for", arguments: readings)
  func reads(_ reading: Reading) throws {
    let configuration = try configuration([reading.variable: reading.value])
    #expect(reading.isAsExpected(configuration))
  }

  @Test(
    "a value that cannot be used is named with its variable and what is allowed",
    arguments: [
      ("NODE_NAME", "", "the name of this node"),
      ("INPOD_UDS", "", "path"),
      ("INPOD_UDS", "/" + String(repeating: "a", count: 107), "at most 107 bytes"),
      ("INPOD_PORT_REUSE", "True", "exactly true or false"),
      ("INPOD_PORT_REUSE", "1", "exactly true or false"),
      ("INPOD_PORT_REUSE", "", "exactly true or false"),
      ("ENABLE_ORIG_SRC", "auto", "exactly true or false"),
      ("IPV6_ENABLED", "yes", "exactly true or false"),
      ("ENABLE_RESPONSE_BAGGAGE", " true", "exactly true or false"),
      ("LOCALHOST_APP_TUNNEL", "on", "exactly true or false"),
      ("AUTHZ_POLICY_INFO_LOGGING", "TRUE", "exactly true or false"),
      ("PACKET_MARK", "4294967296", "from 0 to 4294967295"),
      ("PACKET_MARK", "-1", "from 0 to 4294967295"),
      ("PACKET_MARK", "0x539", "from 0 to 4294967295"),
      ("PACKET_MARK", "+1", "from 0 to 4294967295"),
      ("KEEPALIVE_ENABLED", "", "exactly true or false"),
      ("KEEPALIVE_TIME", "0", "from 1s to 9h6m7s"),
      ("KEEPALIVE_TIME", "32768", "from 1s to 9h6m7s"),
      ("KEEPALIVE_INTERVAL", "fast", "10s, 5m or 1h30m"),
      ("KEEPALIVE_RETRIES", "128", "from 1 to 127"),
      ("KEEPALIVE_RETRIES", "0", "from 1 to 127"),
      ("USER_TIMEOUT_ENABLED", "no", "exactly true or false"),
      ("HTTP2_STREAM_WINDOW_SIZE", "65534", "from 65535 to 2147483647"),
      ("HTTP2_CONNECTION_WINDOW_SIZE", "2147483648", "from 65535 to 2147483647"),
      ("HTTP2_FRAME_SIZE", "16383", "from 16384 to 16777215"),
      ("HTTP2_FRAME_SIZE", "16777216", "from 16384 to 16777215"),
      ("POOL_MAX_STREAMS_PER_CONNECTION", "0", "from 1 to 65535"),
      ("POOL_MAX_STREAMS_PER_CONNECTION", "65536", "from 1 to 65535"),
      ("POOL_UNUSED_RELEASE_TIMEOUT", "5 m", "10s, 5m or 1h30m"),
      ("CONNECTION_TERMINATION_DEADLINE", "-1s", "10s, 5m or 1h30m"),
      ("TERMINATION_GRACE_PERIOD_SECONDS", "30s", "whole number from 0"),
      ("TERMINATION_GRACE_PERIOD_SECONDS", "18446744073709551615", "whole number from 0"),
      ("SECRET_TTL", "59s", "from 1m to 3650d"),
      ("LOCAL_XDS_PATH", "", "the path of a mesh file"),
      ("LOCAL_CA_PATH", "", "directory"),
      ("RUST_LOG", "loud", "error, warn, info, debug or trace"),
      ("ZTUNNEL_WORKER_THREADS", "0%", "percentage"),
      ("ZTUNNEL_WORKER_THREADS", "100.001%", "percentage"),
      ("ZTUNNEL_WORKER_THREADS", "%", "percentage"),
      ("ZTUNNEL_WORKER_THREADS", "nan%", "percentage"),
      ("ZTUNNEL_WORKER_THREADS", "-2", "percentage"),
      ("ZTUNNEL_WORKER_THREADS", "1025", "from 0 (one for each CPU) to 1024"),
      ("ZTUNNEL_WORKER_THREADS", "", "percentage"),
      ("ZTUNNEL_CPU_LIMIT", "0", "2, 1.5 or 500m"),
      ("ZTUNNEL_RESOURCE_CPU_LIMIT", "1.", "2, 1.5 or 500m"),
      ("ZTUNNEL_RESOURCE_CPU_REQUEST", "0m", "2, 1.5 or 500m"),
      ("PROXY_MODE", "Shared", "must be shared"),
      ("FAKE_CA", "maybe", "exactly true or false"),
    ])
  func refuses(_ variable: String, _ value: String, _ allowed: String) throws {
    let problems = problems([variable: value])
    #expect(problems.map(\.variable) == [variable])
    #expect(problems.first?.value == value)
    #expect(problems.first?.reason.contains(allowed) == true, "\(problems)")
  }

  @Test(
    "a variable that asks for what does not exist is refused, with what to do instead",
    arguments: [
      ("FAKE_CA", "true", "LOCAL_CA_PATH"),
      ("PROXY_MODE", "dedicated", "shared"),
      ("ENABLE_PROXY", "false", "unset"),
      ("XDS_ON_DEMAND", "true", "unset"),
    ])
  func refusesUnsupported(_ variable: String, _ value: String, _ remedy: String) throws {
    let problems = problems([variable: value])
    #expect(problems.map(\.variable) == [variable])
    let reason = problems.first?.reason ?? ""
    #expect(reason.hasPrefix("not supported by this version: "))
    #expect(reason.contains(remedy))
  }

  @Test(
    "the same variables are accepted where they ask for nothing",
    arguments: [
      ("XDS_ADDRESS", ""), ("CA_ADDRESS", ""), ("FAKE_CA", "false"), ("PROXY_CONFIG", ""), ("PROXY_MODE", "shared"),
      ("ENABLE_PROXY", "true"), ("ISTIO_META_DNS_CAPTURE", "true"), ("UNSTABLE_ENABLE_SOCKS5", "false"),
      ("XDS_ON_DEMAND", "false"), ("CRL_PATH", ""), ("COMPLIANCE_POLICY", ""), ("TLS12_ENABLED", "false"),
      ("INPOD_ENABLED", "true"), ("RUST_BACKTRACE", "1"), ("POD_NAME", "ztunnel-x"), ("INSTANCE_IP", "10.0.0.1"),
    ])
  func acceptsUnasked(_ variable: String, _ value: String) throws {
    #expect(try configuration([variable: value]) == configuration())
  }

  @Test("SOCKS5 is off unless asked for", arguments: [("false", false), ("true", true)])
  func socks(_ value: String, _ isEnabled: Bool) throws {
    #expect(try configuration(["UNSTABLE_ENABLE_SOCKS5": value]).socks5Enabled == isEnabled)
  }

  @Test("an environment without a mesh or an authority is told which variables to set")
  func missing() {
    let problems = problems([:], without: ["LOCAL_XDS_PATH", "LOCAL_CA_PATH"])
    #expect(problems.map(\.variable) == ["LOCAL_XDS_PATH", "LOCAL_CA_PATH"])
    #expect(problems.allSatisfy { $0.value == nil && $0.reason.contains("set it to") })
    #expect(problems.first?.reason.contains("LOCAL_XDS ") == true)
  }

  @Test("an inline document takes the place of the file")
  func inlineMesh() throws {
    let configuration = try ZtunnelConfiguration(
      environment: ["LOCAL_XDS": "workloads: []", "LOCAL_CA_PATH": "/ca"], processorCount: 1)
    #expect(configuration.localMesh == .inline("workloads: []"))
  }

  @Test("a file and an inline document together are refused")
  func twoMeshes() {
    let problems = problems(["LOCAL_XDS": "workloads: []"])
    #expect(problems.map(\.variable) == ["LOCAL_XDS"])
    #expect(problems.first?.reason.contains("LOCAL_XDS_PATH") == true)
  }

  @Test("the cluster's metadata wins over CLUSTER_ID")
  func clusterPrecedence() throws {
    let configuration = try configuration(["CLUSTER_ID": "west", "ISTIO_META_CLUSTER_ID": "east"])
    #expect(configuration.clusterID == "east")
  }

  @Test("a user timeout without keep-alive has no time to take, and is refused")
  func userTimeoutAlone() {
    let problems = problems(["KEEPALIVE_ENABLED": "false", "USER_TIMEOUT_ENABLED": "true"])
    #expect(problems.map(\.variable) == ["USER_TIMEOUT_ENABLED"])
  }

  @Test("keep-alive that is switched off is still checked")
  func keepAliveOffIsChecked() {
    #expect(problems(["KEEPALIVE_ENABLED": "false", "KEEPALIVE_TIME": "x"]).map(\.variable) == ["KEEPALIVE_TIME"])
  }

  @Test("all problems are told at once, under one code")
  func allAtOnce() throws {
    let error = try #require(throws: ConfigurationErrors.self) {
      try configuration(["PACKET_MARK": "x", "IPV6_ENABLED": "x", "XDS_ADDRESS": "http://x", "SECRET_TTL": "x"])
    }
    #expect(error.problems.map(\.variable) == ["XDS_ADDRESS", "PACKET_MARK", "IPV6_ENABLED", "SECRET_TTL"])
    #expect(error.code == "CONFIG_INVALID")
    #expect(error.summary.contains("4 reasons"))
    #expect(error.description.contains("PACKET_MARK=\"x\": must be a whole number"))
  }

  @Test("a value is shown escaped and cut, so that it stays one log line")
  func shownValue() {
    let problem = ConfigurationProblem(
      variable: "PACKET_MARK", value: "a\n" + String(repeating: "b", count: 200), reason: "no")
    #expect(problem.description == "PACKET_MARK=\"a\\n" + String(repeating: "b", count: 78) + "\"…: no")
  }

  @Test("the description lists every variable once, with the value in force")
  func description() throws {
    let described = try configuration(["NODE_NAME": "worker-1", "TERMINATION_GRACE_PERIOD_SECONDS": "30"]).describe()
    let values = Dictionary(described.map { ($0.name, $0.value) }, uniquingKeysWith: { first, _ in first })
    #expect(values.count == described.count)
    #expect(values["NODE_NAME"] == "worker-1")
    #expect(values["CONNECTION_TERMINATION_DEADLINE"] == "25s")
    #expect(values["POOL_UNUSED_RELEASE_TIMEOUT"] == "5m")
    #expect(values["SECRET_TTL"] == "1d")
    #expect(values["KEEPALIVE_RETRIES"] == "9")
    #expect(values["LOCAL_XDS_PATH"] == "/etc/ambient/mesh.yaml")
  }

  @Test("the description tells the size of an inline document, not its text")
  func inlineDescription() throws {
    let configuration = try ZtunnelConfiguration(
      environment: ["LOCAL_XDS": "workloads: []", "LOCAL_CA_PATH": "/ca"], processorCount: 1)
    #expect(configuration.describe().contains { $0 == ("LOCAL_XDS", "(inline, 13 bytes)") })
  }
}
