/// How large a request may be. istiod takes what gRPC takes by itself, 4 MiB (its `ISTIO_GPRC_MAXRECVMSGSIZE`), and ends a
/// stream on which there is more. Pure.
struct RequestSize: Equatable, Sendable {
  /// Bytes of the names and versions in one request; the rest is for who asks.
  private(set) var limit = Self.usual
  /// The most of a request on the stream of now.
  private var largest = 0

  private static let usual = (4 << 20) - (64 << 10)
  /// Requests with less in them were not refused for it.
  static let smallest = 32 << 10
  /// Names in one change of a subscription. The longest there are, a namespace and a host name, take 320 bytes.
  static let mostNames = 8192
  /// Bytes around a name and its version.
  private static let overhead = 10

  /// A new stream begins.
  mutating func begin() { largest = 0 }

  /// Whether all of these fit into one request.
  mutating func admits(_ held: some Sequence<(String, ResourceVersion)>) -> Bool {
    var size = 0
    for (name, version) in held {
      size += name.utf8.count + version.size + Self.overhead
      guard size <= limit else { return false }
    }
    largest = max(largest, size)
    return true
  }

  /// A request on the stream of now was refused for its size: the limit is below it from now on. False where no request
  /// could be smaller.
  mutating func shrink() -> Bool {
    guard largest >= Self.smallest else { return false }
    limit = largest - 1
    return true
  }
}
