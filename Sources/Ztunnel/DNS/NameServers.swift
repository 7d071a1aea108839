import DNS
import Glibc
import Linux
import Vocabulary

/// The resolvers that queries are forwarded to: those of the proxy's own `resolv.conf` (dns.md §5), read again when it
/// changes.
final class NameServers {
  /// The one that answered last, asked first.
  var preferred: IPAddress?
  private let path: String
  private var configuration = ResolverConfiguration()
  private var signature: FileSignature?
  private var nextLook: ContinuousClock.Instant?

  /// Time between two looks at the file.
  private static let interval = Duration.seconds(5)
  /// Bytes of the file that are read.
  private static let largestFile = 64 << 10

  init(path: String = "/etc/resolv.conf") { self.path = path }

  /// How to ask, as things are now.
  func plan() -> ForwardPlan {
    let now = ContinuousClock.now
    if nextLook.map({ $0 <= now }) ?? true {
      nextLook = now + Self.interval
      let latest = FileSignature(path: path)
      if latest != signature || latest == nil {
        signature = latest
        configuration = read()
      }
    }
    return ForwardPlan(configuration, preferred: preferred)
  }

  private func read() -> ResolverConfiguration {
    guard let file = try? Descriptor.open(path, O_RDONLY | O_NONBLOCK) else { return ResolverConfiguration() }
    let raw = file.raw
    var text: [UInt8] = []
    while text.count < Self.largestFile {
      let chunk = [UInt8](unsafeUninitializedCapacity: 4096) { buffer, count in
        count = max(0, (try? system("read") { Glibc.read(raw, buffer.baseAddress, buffer.count) }) ?? 0)
      }
      if chunk.isEmpty { break }
      text += chunk
    }
    return ResolverConfiguration(parsing: String(decoding: text, as: UTF8.self))
  }
}
