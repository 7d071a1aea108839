import Glibc

/// The environment variables this program reads.
enum Environment {
  private static let names = [
    "ZTUNNEL_UDS_ADDRESS", "WORKLOADS_DIRECTORY", "AMBIENT_STATE_DIRECTORY", "AMBIENT_DNS_CAPTURE", "AMBIENT_IPV6",
    "AMBIENT_RECONCILE_INTERVAL", "AMBIENT_FENCE", "AMBIENT_ESCAPE_COUNTER", "AMBIENT_PROBE_MODE",
    "AMBIENT_STATUS_SOCKET", "ALLOW_SWITCH_TO_HOST_NS", "KUBERNETES_SERVICE_HOST", "HOST_PROBE_SNAT_IP",
    "HOST_PROBE_SNAT_IPV6", "LOG_LEVEL", "LOG_FORMAT",
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
