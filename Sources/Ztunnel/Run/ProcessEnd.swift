import Glibc

/// How a running process ends, decided signal by signal: a value (lifecycle.md §6).
struct ProcessEnd {
  enum Action: Equatable {
    /// Stop listening, let connections run until they end or the deadline.
    case drain
    /// Whoever asks twice does not want to wait: cut what is open.
    case cut
    /// Not even the cutting came to its end.
    case leave
  }

  private var signals = 0

  /// A SIGTERM, a SIGINT, or a request to quit.
  mutating func asked() -> Action {
    signals += 1
    return signals == 1 ? .drain : signals == 2 ? .cut : .leave
  }

  /// Has been asked.
  var hasBegun: Bool { signals > 0 }

  /// Time that what was accepted last has to end, when new connections wait for a successor that starts only after this
  /// process has gone. They, and peers whose handshake has ten seconds, wait this long and for the start.
  static func lastWords(of deadline: Duration) -> Duration { min(.seconds(3), deadline / 2) }

  /// Time that connections which applications opened just before have to be set up, while tunnels are still accepted.
  static let lastSetUps = Duration.seconds(1)

  /// Time that everything beside the connections may take after their deadline.
  static let margin = Duration.seconds(5)
}
