public import Vocabulary

/// Who sent a request.
public enum HTTPPeer: Sendable, Equatable {
  case address(SocketAddress)
  /// A process on this machine, as the kernel saw it when it connected to the unix socket.
  case process(id: Int32, user: UInt32, group: UInt32)
}

/// One request, complete with its body.
public struct HTTPRequest: Sendable {
  /// As sent: methods are case-sensitive (RFC 9110 §9.1).
  public let method: String
  /// Begins with `/`, percent-decoded; bytes that are no UTF-8 are replaced.
  public let path: String
  /// In order, percent-decoded, `+` read as a space; a name without `=` has an empty value.
  public let query: [(name: String, value: String)]
  public let headers: HTTPHeaders
  public internal(set) var body: [UInt8] = []
  public let peer: HTTPPeer

  public init(
    method: String, path: String, query: [(name: String, value: String)] = [], headers: HTTPHeaders = [:],
    body: [UInt8] = [], peer: HTTPPeer
  ) {
    self.method = method
    self.path = path
    self.query = query
    self.headers = headers
    self.body = body
    self.peer = peer
  }

  /// The last value of a query name, nil when it is not given.
  public func query(_ name: String) -> String? { query.last { $0.name == name }?.value }
}
