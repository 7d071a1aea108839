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
    var port: Substring?
    if rest.first == "[" {
      guard let end = rest.firstIndex(of: "]") else { return nil }
      let after = rest[rest.index(after: end)...]
      guard after.isEmpty || after.first == ":" else { return nil }
      if !after.isEmpty { port = after.dropFirst() }
      rest = rest[..<end].dropFirst()
      guard IPAddress(rest)?.family == .v6 else { return nil }
    } else if let colon = rest.firstIndex(of: ":") {
      port = rest[rest.index(after: colon)...]
      rest = rest[..<colon]
    }
    guard let host = ServerName(String(rest)) else { return nil }
    guard let number = port.map({ UInt16($0) }) ?? 443, number > 0 else { return nil }
    self.init(host: host, port: number, prefix: prefix)
  }

  /// `host:port`, as in `:authority`.
  public var authority: String {
    switch host {
    case .dns(let name): "\(name):\(port)"
    case .ip(let address): "\(SocketAddress(address, port))"
    }
  }

  public var description: String { "https://\(authority)\(prefix)" }
}
