import Mesh

/// Which records a worker has said to be in use, so that it says so once in a while and not for each connection.
struct UsedKeys {
  private var keys: Set<MeshKey> = []
  private var since = ContinuousClock.now

  /// Well below the time after which unused records are given back.
  static let period = Duration.seconds(60)
  /// Keys remembered at once.
  static let mostKeys = 16_384

  /// Those that have not been said lately.
  mutating func news(_ used: [MeshKey], at now: ContinuousClock.Instant) -> [MeshKey] {
    if since.duration(to: now) >= Self.period || keys.count >= Self.mostKeys {
      keys = []
      since = now
    }
    return used.filter { keys.insert($0).inserted }
  }
}
