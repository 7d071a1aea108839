import Vocabulary

extension ZtunnelConfiguration {
  /// The configuration in force, defaults included, by the names of the variables: for the start-up log.
  public func describe() -> [(name: String, value: String)] {
    let keepAliveEntries: [(name: String, value: String)] =
      keepAlive.map { keepAlive in
        [
          ("KEEPALIVE_TIME", "\(keepAlive.idle)s"),
          ("KEEPALIVE_INTERVAL", "\(keepAlive.interval)s"),
          ("KEEPALIVE_RETRIES", "\(keepAlive.probes)"),
          ("USER_TIMEOUT_ENABLED", "\(keepAlive.limitsUnacknowledgedData)"),
        ]
      } ?? []
    return [
      ("NODE_NAME", nodeName ?? "(every workload is local)"),
      ("NETWORK", network),
      ("CLUSTER_ID", clusterID),
      ("INPOD_UDS", zdsSocketPath),
      ("AMBIENT_STATUS_SOCKET", statusSocketPath),
      ("INPOD_PORT_REUSE", "\(sharesPorts)"),
      ("ZTUNNEL_WORKER_THREADS", "\(workerThreads)"),
      ("PACKET_MARK", "\(packetMark ?? 0)"),
      ("ENABLE_ORIG_SRC", sourceDescription),
      ("IPV6_ENABLED", "\(ipv6Enabled)"),
      ("KEEPALIVE_ENABLED", "\(keepAlive != nil)"),
    ] + keepAliveEntries + [
      ("HTTP2_STREAM_WINDOW_SIZE", "\(streamWindow)"),
      ("HTTP2_CONNECTION_WINDOW_SIZE", "\(connectionWindow)"),
      ("HTTP2_FRAME_SIZE", "\(maxFrameSize)"),
      ("POOL_MAX_STREAMS_PER_CONNECTION", "\(poolMaxStreams)"),
      ("POOL_UNUSED_RELEASE_TIMEOUT", DurationText.describe(poolIdleTimeout)),
      ("CONNECTION_TERMINATION_DEADLINE", DurationText.describe(terminationDeadline)),
      ("AMBIENT_UPGRADE_DEADLINE", DurationText.describe(upgradeDeadline)),
      ("ENABLE_RESPONSE_BAGGAGE", "\(respondsWithBaggage)"),
      ("XDS_ADDRESS", discovery.map { "\($0.endpoint.target)" } ?? ""),
      ("XDS_ON_DEMAND", "\(discovery?.isOnDemand ?? false)"),
      ("CA_ADDRESS", authority.map { "\($0.target)" } ?? ""),
      meshDescription,
      ("LOCAL_CA_PATH", localCAPath ?? ""),
      ("SPIFFE_ENDPOINT_SOCKET", spiffeAgent.map { "unix://\($0.path)" } ?? ""),
      ("CRL_PATH", revocationListPath ?? ""),
      ("COMPLIANCE_POLICY", complianceDescription),
      ("TLS12_ENABLED", "\(tlsProfile.allowsTLS12)"),
      ("SECRET_TTL", DurationText.describe(certificateTTL)),
      ("ISTIO_META_DNS_CAPTURE", "\(dnsProxy != nil)"),
    ] + snapshotEntries + dnsEntries + [
      ("UNSTABLE_ENABLE_SOCKS5", "\(socks5Enabled)"),
      ("LOCALHOST_APP_TUNNEL", "\(localhostApplicationTunnel)"),
      ("AUTHZ_POLICY_INFO_LOGGING", "\(logsPolicyAtInfo)"),
      ("ZTUNNEL_ADMIN_PORT", "\(adminPort)"),
      ("ZTUNNEL_STATS_PORT", "\(statsPort)"),
      ("ZTUNNEL_READINESS_PORT", "\(readinessPort)"),
      ("RUST_LOG", logFilter ?? "info"),
      ("LOG_FORMAT", logFormat ?? ""),
    ]
  }

  private var complianceDescription: String {
    switch tlsProfile.keyExchange {
    case .standard: ""
    case .hybrid: "pqc"
    case .approvedCurves: "fips-140-2"
    }
  }

  private var snapshotEntries: [(name: String, value: String)] {
    guard let snapshot else { return [("AMBIENT_SNAPSHOT_PATH", "")] }
    return [
      ("AMBIENT_SNAPSHOT_PATH", snapshot.directory),
      ("AMBIENT_SNAPSHOT_KEY", snapshot.keyPath),
      ("AMBIENT_SNAPSHOT_MAX_AGE", DurationText.describe(snapshot.maximumAge)),
      ("AMBIENT_SNAPSHOT_CERTIFICATES", "\(snapshot.keepsCertificates)"),
    ]
  }

  private var dnsEntries: [(name: String, value: String)] {
    guard let dnsProxy else { return [] }
    return [
      ("ISTIO_META_DNS_PROXY_ADDR", dnsProxy.addresses.map(\.description).joined(separator: ", ")),
      ("CLUSTER_DOMAIN", meshResolver.clusterDomain),
      ("PREFERED_SERVICE_NAMESPACE", meshResolver.preferredNamespace ?? ""),
    ]
  }

  private var sourceDescription: String {
    switch preservesSource {
    case .auto: "(where the kernel allows it)"
    case .required: "true"
    case .off: "false"
    }
  }

  private var meshDescription: (name: String, value: String) {
    switch localMesh {
    case .file(let path): ("LOCAL_XDS_PATH", path)
    case .inline(let document): ("LOCAL_XDS", "(inline, \(document.utf8.count) bytes)")
    case nil: ("LOCAL_XDS_PATH", "")
    }
  }
}
