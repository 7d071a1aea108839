import Mesh

/// Which records a worker has said to be in use, so that it says so once in a while and not for each connection.
struct UsedKeys {
  private struct Use: Hashable {
    let key: MeshKey
    let pod: String
  }

  private var uses: Set<Use> = []
  private var since = ContinuousClock.now

  /// Well below the time after which unused records are given back.
  static let period = Duration.seconds(60)
  /// Uses remembered at once.
  static let mostKeys = 16_384

  /// Those that have not been said lately of the pod.
  mutating func news(_ used: [MeshKey], by pod: String, at now: ContinuousClock.Instant) -> [MeshKey] {
    if since.duration(to: now) >= Self.period || uses.count >= Self.mostKeys {
      uses = []
      since = now
    }
    return used.filter { uses.insert(Use(key: $0, pod: pod)).inserted }
  }
}
