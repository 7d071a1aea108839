import TLS
import Vocabulary

/// Where an API server is: `https://host:port/prefix`.
public struct ServerAddress: Hashable, Sendable, CustomStringConvertible {
  public let host: ServerName
  public let port: UInt16
  /// What stands before every path: empty, or begins with `/` and ends without one.
  public let prefix: String

  public init(host: ServerName, port: UInt16, prefix: String = "") {
    self.host = host
    self.port = port
    self.prefix = prefix
  }

  /// Parses a kubeconfig's `server`. Nil for anything but `https`, and for what is no address.
  public init?(_ url: String) {
    let scheme = "https://"
    guard url.lowercased().hasPrefix(scheme), url.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else { return nil }
    var rest = url.dropFirst(scheme.count)
    var prefix = ""
    if let slash = rest.firstIndex(of: "/") {
      prefix = String(rest[slash...])
      while prefix.hasSuffix("/") { prefix.removeLast() }
      rest = rest[..<slash]
    }
    guard !prefix.contains(where: { "?#".contains($0) }) else { return nil }
    guard let (host, port) = ServerName.read(authority: rest) else { return nil }
    self.init(host: host, port: port ?? 443, prefix: prefix)
  }

  /// `host:port`, as in `:authority`.
  public var authority: String { host.authority(port: port) }

  public var description: String { "https://\(authority)\(prefix)" }
}
