import Linux
import Vocabulary

/// Why a SOCKS5 client was not served.
enum SocksError: CodedError, Equatable {
  /// The first byte of a message says another version, or another protocol.
  case version(UInt8)
  /// The client insists on authentication.
  case noAcceptableMethod
  /// Something else than CONNECT.
  case command(UInt8)
  case addressType(UInt8)
  /// The host name's bytes are none.
  case malformedName
  /// Neither the mesh nor the resolvers upstream know an address of this name.
  case unknownName(String)
  /// The client ended before its request was complete.
  case endedEarly
  case timeout
  case io(SystemError)

  /// The reply's code (RFC 1928 §6); nil when the client is told nothing, or told otherwise.
  var reply: SocksReply? {
    switch self {
    case .version, .command, .addressType, .malformedName: .commandNotSupported
    case .unknownName: .hostUnreachable
    case .noAcceptableMethod, .endedEarly, .timeout, .io: nil
    }
  }

  var code: String {
    switch self {
    case .version: "SOCKS_VERSION"
    case .noAcceptableMethod: "SOCKS_NO_METHOD"
    case .command: "SOCKS_COMMAND"
    case .addressType: "SOCKS_ADDRESS_TYPE"
    case .malformedName: "SOCKS_MALFORMED_NAME"
    case .unknownName: "SOCKS_UNKNOWN_NAME"
    case .endedEarly: "SOCKS_ENDED_EARLY"
    case .timeout: "SOCKS_TIMEOUT"
    case .io(let error): error.code
    }
  }

  var summary: String {
    switch self {
    case .version(let version): "socks5: unexpected version \(version)"
    case .noAcceptableMethod: "socks5: the client does not offer to do without authentication"
    case .command(let command): "socks5: unsupported command \(command)"
    case .addressType(let type): "socks5: unsupported address type \(type)"
    case .malformedName: "socks5: malformed host name"
    case .unknownName(let name): "socks5: no address is known for hostname: \(name)"
    case .endedEarly: "socks5: the client ended before its request was complete"
    case .timeout: "socks5: the request was not complete in time"
    case .io(let error): "socks5: \(error.summary)"
    }
  }

  var remedy: String? {
    switch self {
    case .version, .addressType, .malformedName: "check that the client speaks SOCKS5"
    case .noAcceptableMethod: "configure the client without user name and password"
    case .command: "only CONNECT is served: neither BIND nor UDP"
    case .unknownName: "check the name, and the resolvers in the proxy's /etc/resolv.conf"
    case .endedEarly, .timeout, .io: nil
    }
  }
}
