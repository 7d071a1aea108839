import Linux
import Vocabulary

/// Why a query got no answer from upstream.
enum UpstreamError: CodedError, Equatable {
  case noNameServer
  case timeout(Duration)
  case unreachable(SystemError)
  case namespace(String)
  case tooManyQueries
  /// The pod's proxy ends.
  case stopped

  var code: String {
    switch self {
    case .noNameServer: "DNS_NO_NAME_SERVER"
    case .timeout: "DNS_TIMEOUT"
    case .unreachable(let error): error.code
    case .namespace: "NETNS_FAILED"
    case .tooManyQueries: "DNS_TOO_MANY_QUERIES"
    case .stopped: "DNS_STOPPED"
    }
  }

  var summary: String {
    switch self {
    case .noNameServer: "/etc/resolv.conf of the proxy names no server"
    case .timeout(let limit): "no server answered within \(limit)"
    case .unreachable(let error): error.summary
    case .namespace(let text): text
    case .tooManyQueries: "too many queries of this pod, or of all, wait for an answer already"
    case .stopped: "the pod is no longer served"
    }
  }
}

/// One query under way to the resolvers upstream. It ends exactly once, also when it is cancelled.
protocol UpstreamExchange: AnyObject {
  /// Ends with ``UpstreamError/stopped``.
  func cancel()
}

/// What both kinds of exchange need.
struct UpstreamContext {
  let loop: EventLoop
  let namespace: NetworkNamespace
  let mark: UInt32?
  let nameServers: NameServers

  /// A socket towards `server`, made by `make` in the pod's namespace and marked, so that it is not captured again.
  ///
  /// A resolver on the proxy's own loopback, as local caching resolvers are, can be reached from there only: in the pod
  /// that address is another machine's.
  func socket(
    to server: IPAddress, _ make: (IPAddress.Family) throws(SystemError) -> Descriptor
  ) throws(UpstreamError) -> SharedDescriptor {
    let isOwn = server.isLoopback
    let socket: SharedDescriptor
    do {
      socket = try (isOwn ? .home : namespace).enter { SharedDescriptor(try make(server.family)) }
    } catch let error as SystemError {
      throw .unreachable(error)
    } catch {
      throw .namespace("\(error)")
    }
    if let mark, !isOwn {
      do throws(SystemError) { try TCPSocket.setMark(socket.raw, mark) } catch { throw .unreachable(error) }
    }
    return socket
  }
}
