import Linux

/// Options that are set on listeners once, for the kernel to pass on to each connection accepted from them: several calls
/// fewer for each connection (datapath.md §1.1).
enum InheritedOptions {
  /// The congestion control that spreads packets over time, by timers, and the ones that do not, in order of preference;
  /// every kernel has the last.
  private static let pacing = "bbr"
  private static let unpaced = ["cubic", "reno"]

  /// Prepares all of a pod's listeners. Returns the congestion control that connections to the pod's application need;
  /// nil where its default will do.
  static func set(on listeners: [PodListener], _ configuration: ZtunnelConfiguration) -> String? {
    let local = localCongestionControl(listeners)
    for listener in listeners {
      let raw = listener.socket.raw
      TCPSocket.setNoDelay(raw)
      switch listener.role {
      case .outbound, .socks:
        if let keepAlive = configuration.keepAlive { TCPSocket.setKeepAlive(raw, keepAlive) }
        if let local { TCPSocket.setCongestionControl(raw, local) }
      case .passthrough:
        if let keepAlive = configuration.keepAlive { TCPSocket.setKeepAlive(raw, keepAlive) }
      case .hbone, .dns: break
      }
    }
    return local
  }

  /// Between an application and its proxy is no network that could be congested. Pacing there only costs processor time:
  /// a timer for each burst of each connection.
  private static func localCongestionControl(_ listeners: [PodListener]) -> String? {
    // Of this one nothing was changed, also when an earlier ztunnel has made it.
    guard let untouched = listeners.first(where: { $0.role == .hbone }),
      TCPSocket.congestionControl(untouched.socket.raw)?.hasPrefix(pacing) == true,
      let mine = listeners.first(where: { $0.role == .outbound })
    else { return nil }
    return unpaced.first { TCPSocket.setCongestionControl(mine.socket.raw, $0) }
  }
}
