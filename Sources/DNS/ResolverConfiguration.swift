import Vocabulary

/// What of `resolv.conf` matters for forwarding (dns.md §5, resolv.conf(5)). The search list does not: names are
/// forwarded as asked.
public struct ResolverConfiguration: Equatable, Sendable {
  /// In order of preference, at most three.
  public var servers: [IPAddress] = []
  /// Seconds for one round through all servers, 1...30.
  public var timeout = 5
  /// Rounds, 1...5.
  public var attempts = 2

  public static let mostServers = 3
  public static let port: UInt16 = 53

  public init() {}

  /// Takes what it understands and passes over the rest, as the C library does.
  public init(parsing text: some StringProtocol) {
    for line in text.split(whereSeparator: \.isNewline) {
      let words = line.split { $0 == " " || $0 == "\t" }
      guard let key = words.first, key.first != "#", key.first != ";" else { continue }
      switch key {
      case "nameserver":
        guard words.count > 1, servers.count < Self.mostServers, let ip = IPAddress(words[1]) else { continue }
        if !servers.contains(ip) { servers.append(ip) }
      case "options":
        for option in words.dropFirst() { apply(option) }
      default: continue
      }
    }
  }

  private mutating func apply(_ option: some StringProtocol) {
    let parts = option.split(separator: ":", maxSplits: 1)
    guard parts.count == 2, let value = Int(parts[1]) else { return }
    switch parts[0] {
    case "timeout": timeout = min(max(value, 1), 30)
    case "attempts": attempts = min(max(value, 1), 5)
    default: break
    }
  }
}

/// Which servers to ask in which order, and for how long: as many tries as there are rounds for, within one deadline.
public struct ForwardPlan: Equatable, Sendable {
  /// Longest that any query is kept waiting.
  public static let longest = Duration.seconds(10)
  private static let shortestTry = Duration.seconds(1)

  /// How long one try may take before the next is made. The answer to an earlier try still counts.
  public let tryLimit: Duration
  /// How long all of them may take.
  public let limit: Duration
  private var rest: ArraySlice<IPAddress>

  /// `preferred` goes first: it answered last.
  public init(_ configuration: ResolverConfiguration, preferred: IPAddress? = nil) {
    var order = configuration.servers
    if let preferred, let index = order.firstIndex(of: preferred) { order.insert(order.remove(at: index), at: 0) }
    let round = Duration.seconds(configuration.timeout)
    tryLimit = min(max(order.isEmpty ? round : round / order.count, Self.shortestTry), Self.longest)
    let tries = (0..<configuration.attempts).flatMap { _ in order }
    rest = tries[...]
    limit = min(tryLimit * tries.count, Self.longest)
  }

  /// The server to ask next; nil when all have been asked as often as they are to be.
  public mutating func next() -> IPAddress? { rest.popFirst() }

  /// Does not ask `server` again. True when there is another to ask.
  public mutating func giveUp(on server: IPAddress) -> Bool {
    rest.removeAll { $0 == server }
    return !rest.isEmpty
  }
}
