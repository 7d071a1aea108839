public import DNS
import GRPC
import Linux
import TLS
import Telemetry
import XDS

/// Whether pods see the client's own address instead of the proxy's (datapath.md §9).
public enum SourcePreservation: String, Sendable, CaseIterable {
  /// Where the kernel allows it.
  case auto
  /// A connection that cannot have it fails.
  case required
  case off
}

/// Where the description of the mesh comes from (xds.md §7).
public enum LocalMeshSource: Hashable, Sendable {
  /// Path of a file, watched for changes.
  case file(String)
  /// The document itself.
  case inline(String)
}

/// What the environment tells the proxy, checked (lifecycle.md §10).
public struct ZtunnelConfiguration: Sendable, Equatable {
  /// The node whose workloads are local ones, `NODE_NAME`. Nil makes every workload local.
  public let nodeName: String?
  /// The proxy's network, `NETWORK`.
  public let network: String
  /// `ISTIO_META_CLUSTER_ID`, else `CLUSTER_ID`.
  public let clusterID: String
  /// The node agent's socket, `INPOD_UDS`.
  public let zdsSocketPath: String
  /// Where the node agent answers about its proofs; they are shown where it does.
  public let statusSocketPath: String
  /// Threads of the data plane, 1...1024 (lifecycle.md §1.1).
  public let workerThreads: Int
  /// SO_MARK of the proxy's own connections, `PACKET_MARK`. Nil for none.
  public let packetMark: UInt32?
  /// SO_REUSEPORT on listeners inside pods, `INPOD_PORT_REUSE`.
  public let sharesPorts: Bool
  /// `ENABLE_ORIG_SRC`.
  public let preservesSource: SourcePreservation
  /// `IPV6_ENABLED`.
  public let ipv6Enabled: Bool
  /// `KEEPALIVE_*` and `USER_TIMEOUT_ENABLED`. Nil when switched off.
  public let keepAlive: TCPKeepAlive?
  /// Bytes, 65535...2147483647, `HTTP2_STREAM_WINDOW_SIZE`.
  public let streamWindow: Int32
  /// Bytes, 65535...2147483647, `HTTP2_CONNECTION_WINDOW_SIZE`.
  public let connectionWindow: Int32
  /// Bytes, 16384...16777215, `HTTP2_FRAME_SIZE`.
  public let maxFrameSize: UInt32
  /// Streams on one pooled tunnel, 1...65535, `POOL_MAX_STREAMS_PER_CONNECTION`.
  public let poolMaxStreams: Int
  /// How long an unused tunnel is kept, `POOL_UNUSED_RELEASE_TIMEOUT`.
  public let poolIdleTimeout: Duration
  /// How long connections run on after the request to end (lifecycle.md §6).
  public let terminationDeadline: Duration
  /// How long connections run on in a process that another one has replaced, `AMBIENT_UPGRADE_DEADLINE`.
  public let upgradeDeadline: Duration
  /// `ENABLE_RESPONSE_BAGGAGE` (hbone.md §4.1).
  public let respondsWithBaggage: Bool
  /// The control plane that describes the mesh, `XDS_ADDRESS` and what goes with it. Nil for a local file alone.
  public let discovery: DiscoveryConfiguration?
  /// The control plane's certificate service, `CA_ADDRESS` and what goes with it. Nil where certificates come
  /// from this machine.
  public let authority: GRPCEndpoint?
  /// The SPIFFE agent that gives certificates instead, `SPIFFE_ENDPOINT_SOCKET`.
  public let spiffeAgent: LocalEndpoint?
  /// `COMPLIANCE_POLICY` and `TLS12_ENABLED`.
  public let tlsProfile: TLSProfile
  /// The file of revoked certificates, `CRL_PATH`. Nil for none.
  public let revocationListPath: String?
  /// What is kept over a restart, `AMBIENT_SNAPSHOT_PATH`. Nil for nothing.
  public let snapshot: SnapshotConfiguration?
  /// `LOCAL_XDS_PATH` or `LOCAL_XDS`.
  public let localMesh: LocalMeshSource?
  /// Directory of a certificate authority with the file names of Istio's `cacerts` secret, `LOCAL_CA_PATH`.
  public let localCAPath: String?
  /// Lifetime of the certificates asked for, 1m...3650d, `SECRET_TTL`.
  public let certificateTTL: Duration
  /// `ISTIO_META_DNS_CAPTURE` and what belongs to it. Nil when DNS is not served.
  public let dnsProxy: DNSProxyConfiguration?
  /// What the mesh answers about names, to clients of the DNS proxy and of the SOCKS5 port.
  public let meshResolver: MeshResolver
  /// `UNSTABLE_ENABLE_SOCKS5`.
  public let socks5Enabled: Bool
  /// PROXY application tunnels are reached over loopback, `LOCALHOST_APP_TUNNEL`.
  public let localhostApplicationTunnel: Bool
  /// Policy decisions are logged at info, `AUTHZ_POLICY_INFO_LOGGING`.
  public let logsPolicyAtInfo: Bool
  /// `RUST_LOG`, already found to be a valid filter. Nil when unset or blank.
  public let logFilter: String?
  /// `LOG_FORMAT`.
  public let logFormat: String?

  /// `ISTIO_META_ISTIO_VERSION`, the tag of the build metric.
  public let istioVersion: String
  /// HTTP ports of this process; 0 is none (observability.md §5). `ZTUNNEL_READINESS_PORT`, 15021 as a rule.
  public let readinessPort: UInt16
  /// `ZTUNNEL_STATS_PORT`, else `statsPort` of the proxy configuration, 15020 as a rule.
  public let statsPort: UInt16
  /// `ZTUNNEL_ADMIN_PORT`, else `proxyAdminPort` of the proxy configuration, 15000 as a rule.
  public let adminPort: UInt16

  /// Longest path of a Unix socket: `sun_path` without its terminating zero.
  static let longestSocketPath = 107

  /// Reads all variables, and nothing but the arguments. `processorCount` is the machine's number of CPUs, `meshFile` the
  /// text of Istio's mesh configuration file where there is one.
  ///
  /// Throws ``ConfigurationErrors`` with every problem there is.
  public init(
    environment own: [String: String], processorCount: Int, meshFile: String? = nil
  ) throws(ConfigurationErrors) {
    var reader = EnvironmentReader(own)
    let proxyConfig = reader.proxyConfig(meshFile: meshFile)
    let environment = proxyConfig.environment(own)
    reader.environment = environment
    reader.refuseUnsupported()
    tlsProfile = reader.tlsProfile()
    revocationListPath = reader.revocationListPath()
    let isOnDemand = reader.bool("XDS_ON_DEMAND", default: false)
    snapshot = reader.snapshot(isOnDemand: isOnDemand)
    discovery = reader.controlPlane(
      "XDS", localVariables: ["LOCAL_XDS_PATH", "LOCAL_XDS"], proxyConfig, tlsProfile
    ).map {
      DiscoveryConfiguration(
        endpoint: $0, node: NodeDescription(environment: environment), isOnDemand: isOnDemand)
    }
    spiffeAgent = reader.spiffeEndpoint()
    // What is on this machine goes before the control plane.
    let isLocal = environment["LOCAL_CA_PATH"] != nil || spiffeAgent != nil
    authority =
      isLocal ? nil : reader.controlPlane("CA", localVariables: ["LOCAL_CA_PATH"], proxyConfig, tlsProfile)

    nodeName = reader.nonEmpty("NODE_NAME", "the name of this node")
    network = environment["NETWORK"] ?? ""
    clusterID = environment["ISTIO_META_CLUSTER_ID"] ?? environment["CLUSTER_ID"] ?? "Kubernetes"
    statusSocketPath =
      reader.nonEmpty("AMBIENT_STATUS_SOCKET", "the path of the node agent's control socket")
      ?? EnrolmentProofs.defaultPath
    zdsSocketPath =
      reader.path("INPOD_UDS", "the path of the node agent's socket", limit: Self.longestSocketPath)
      ?? "/var/run/ztunnel/ztunnel.sock"
    workerThreads = reader.workerThreads(processorCount: processorCount, proxyConfig)

    let mark: UInt32 = reader.number("PACKET_MARK", default: 1337, in: 0...UInt32.max)
    packetMark = mark == 0 ? nil : mark
    sharesPorts = reader.bool("INPOD_PORT_REUSE", default: true)
    preservesSource = reader.bool("ENABLE_ORIG_SRC").map { $0 ? .required : .off } ?? .auto
    ipv6Enabled = reader.bool("IPV6_ENABLED", default: true)
    keepAlive = reader.keepAlive()

    streamWindow = reader.number("HTTP2_STREAM_WINDOW_SIZE", default: 4 << 20, in: 65535...Int32.max)
    connectionWindow = reader.number("HTTP2_CONNECTION_WINDOW_SIZE", default: 16 << 20, in: 65535...Int32.max)
    maxFrameSize = reader.number("HTTP2_FRAME_SIZE", default: 1 << 20, in: 16384...16_777_215)
    poolMaxStreams = reader.number("POOL_MAX_STREAMS_PER_CONNECTION", default: 100, in: 1...65535)
    poolIdleTimeout =
      reader.duration("POOL_UNUSED_RELEASE_TIMEOUT", in: .zero...(.seconds(365 * 86_400))) ?? .seconds(300)
    terminationDeadline = reader.terminationDeadline()
    upgradeDeadline =
      reader.duration("AMBIENT_UPGRADE_DEADLINE", in: .zero...(.seconds(365 * 86_400))) ?? .seconds(3600)
    respondsWithBaggage = reader.bool("ENABLE_RESPONSE_BAGGAGE", default: true)

    localMesh = reader.localMesh(isNeeded: discovery == nil)
    localCAPath = reader.localCAPath(isNeeded: authority == nil && spiffeAgent == nil)
    certificateTTL = reader.duration("SECRET_TTL", in: .seconds(60)...(.seconds(3650 * 86_400))) ?? .seconds(86_400)
    dnsProxy = reader.dnsProxy(ipv6Enabled: ipv6Enabled)
    meshResolver = reader.meshResolver(ipv6Enabled: ipv6Enabled)
    socks5Enabled = reader.bool("UNSTABLE_ENABLE_SOCKS5", default: false)
    localhostApplicationTunnel = reader.bool("LOCALHOST_APP_TUNNEL", default: true)
    logsPolicyAtInfo = reader.bool("AUTHZ_POLICY_INFO_LOGGING", default: false)
    istioVersion = environment["ISTIO_META_ISTIO_VERSION"] ?? "unknown"
    readinessPort = reader.number("ZTUNNEL_READINESS_PORT", default: 15021, in: 0...UInt16.max)
    statsPort = reader.number("ZTUNNEL_STATS_PORT", default: proxyConfig.statsPort ?? 15020, in: 0...UInt16.max)
    adminPort = reader.number("ZTUNNEL_ADMIN_PORT", default: proxyConfig.adminPort ?? 15000, in: 0...UInt16.max)
    logFilter = reader.logFilter()
    logFormat = environment["LOG_FORMAT"]

    guard reader.problems.isEmpty else { throw ConfigurationErrors(problems: reader.problems) }
  }
}

extension EnvironmentReader {
  /// Largest values the kernel takes for TCP_KEEPIDLE, TCP_KEEPINTVL and TCP_KEEPCNT (tcp(7)).
  private static let keepAliveTimes = Duration.seconds(1)...Duration.seconds(32_767)
  private static let keepAliveProbes: ClosedRange<Int32> = 1...127

  fileprivate mutating func keepAlive() -> TCPKeepAlive? {
    let isEnabled = bool("KEEPALIVE_ENABLED", default: true)
    let limitsUnacknowledgedData = bool("USER_TIMEOUT_ENABLED", default: false)
    let settings = TCPKeepAlive(
      idle: keepAliveSeconds("KEEPALIVE_TIME"), interval: keepAliveSeconds("KEEPALIVE_INTERVAL"),
      probes: number("KEEPALIVE_RETRIES", default: 9, in: Self.keepAliveProbes),
      limitsUnacknowledgedData: limitsUnacknowledgedData)
    if !isEnabled, limitsUnacknowledgedData {
      report("USER_TIMEOUT_ENABLED", "takes its time from keep-alive: set KEEPALIVE_ENABLED to true, or unset this")
    }
    return isEnabled ? settings : nil
  }

  /// Whole seconds, rounded up: the kernel knows no parts of them.
  private mutating func keepAliveSeconds(_ name: String) -> Int32 {
    guard let time = duration(name, in: Self.keepAliveTimes) else { return 180 }
    let (seconds, attoseconds) = time.components
    return Int32(clamping: seconds + (attoseconds > 0 ? 1 : 0))
  }

  fileprivate mutating func localMesh(isNeeded: Bool) -> LocalMeshSource? {
    let path = self.path("LOCAL_XDS_PATH", "the path of a mesh file")
    let document = nonEmpty("LOCAL_XDS", "a mesh document")
    switch (value("LOCAL_XDS_PATH"), value("LOCAL_XDS")) {
    case (nil, nil) where isNeeded && !isGiven("XDS_ADDRESS"):
      report(
        "LOCAL_XDS_PATH",
        "is not set: set it to the path of a mesh file, or LOCAL_XDS to the document itself, or XDS_ADDRESS to a "
          + "control plane")
    case (.some, .some):
      report("LOCAL_XDS", "LOCAL_XDS_PATH is set too: unset one of them")
    default: break
    }
    return path.map(LocalMeshSource.file) ?? document.map(LocalMeshSource.inline)
  }

  fileprivate mutating func localCAPath(isNeeded: Bool) -> String? {
    if value("LOCAL_CA_PATH") == nil, isNeeded, !isGiven("CA_ADDRESS"), !isGiven("SPIFFE_ENDPOINT_SOCKET") {
      report(
        "LOCAL_CA_PATH",
        "is not set: set it to a directory with ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem, or "
          + "CA_ADDRESS to a control plane, or SPIFFE_ENDPOINT_SOCKET to an agent")
    }
    return path("LOCAL_CA_PATH", "the directory of a certificate authority")
  }

  fileprivate mutating func logFilter() -> String? {
    guard let text = value("RUST_LOG"), text.contains(where: { !$0.isWhitespace }) else { return nil }
    do throws(LogFilterError) {
      _ = try LogFilter(text)
      return text
    } catch {
      report("RUST_LOG", [error.summary, error.remedy].compactMap { $0 }.joined(separator: "; "))
      return nil
    }
  }
}
