import Glibc

/// The environment variables this program reads.
enum Environment {
  private static let names = [
    "ZTUNNEL_UDS_ADDRESS", "WORKLOADS_DIRECTORY", "AMBIENT_STATE_DIRECTORY", "AMBIENT_DNS_CAPTURE", "AMBIENT_IPV6",
    "AMBIENT_RECONCILE_INTERVAL", "AMBIENT_HEALTH_PORT", "MONITORING_PORT", "HOST_PROBE_SNAT_IP",
    "HOST_PROBE_SNAT_IPV6", "LOG_LEVEL", "LOG_FORMAT", "JOURNAL_STREAM",
  ]

  /// Those that are set.
  static func read() -> [String: String] {
    var values: [String: String] = [:]
    for name in names {
      if let value = getenv(name) { values[name] = String(cString: value) }
    }
    return values
  }
}
