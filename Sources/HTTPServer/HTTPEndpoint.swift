public import Glibc
public import Linux
public import Vocabulary

/// Where a server listens.
public enum HTTPEndpoint: Sendable {
  /// `sharesPort` lets several processes of one user listen on the port, such as a proxy and its successor.
  case address(SocketAddress, sharesPort: Bool = false)
  /// Every address of the machine: IPv6 and IPv4 on one socket, or IPv4 alone where the kernel has no IPv6.
  case everyAddress(port: UInt16, sharesPort: Bool = false)
  /// A unix socket. `mode` is the file's; connections of other users than `users` are closed unread, nil allows all
  /// whom the mode does.
  case unix(path: String, mode: mode_t = 0o600, users: Set<UInt32>? = nil)
  /// A socket that listens already, such as one from a service manager.
  case inherited(SharedDescriptor)
}

/// Why a server cannot listen.
public enum HTTPServerError: CodedError, Equatable {
  case cannotListen(endpoint: String, SystemError)
  case pathTooLong(String)
  /// Something else than a socket lies at the path; it is not removed.
  case notASocket(path: String)

  public var code: String {
    switch self {
    case .cannotListen: "HTTP_CANNOT_LISTEN"
    case .pathTooLong: "HTTP_PATH_TOO_LONG"
    case .notASocket: "HTTP_NOT_A_SOCKET"
    }
  }

  public var summary: String {
    switch self {
    case .cannotListen(let endpoint, let error): "cannot serve HTTP on \(endpoint): \(error.summary)"
    case .pathTooLong(let path): "\(path) is too long for a unix socket"
    case .notASocket(let path): "\(path) is no socket"
    }
  }

  public var remedy: String? {
    switch self {
    case .cannotListen(_, let error) where error.number == EADDRINUSE:
      "find who listens there (ss -ltnp), or configure another port"
    case .cannotListen: nil
    case .pathTooLong: "choose a path of at most 107 bytes"
    case .notASocket: "remove the file, or choose another path"
    }
  }
}
