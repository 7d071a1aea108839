import CLinux
import Foundation
import Linux
import Synchronization
public import Vocabulary

/// A small TCP server on a thread of its own, inside a namespace, on every address of both families.
///
/// Keep it in a variable with `defer { server.stop() }`; it stops by itself when the last reference goes.
public final class TCPServer: Sendable {
  /// What it does with each connection.
  public enum Behaviour: Sendable {
    /// Sends back what comes, and ends its side when the client has ended its own.
    case echo
    /// Sends a text first, then echoes.
    case greet(String)
    /// Takes everything; when the client has ended its side, reports `bytes=<n> intact=<bool>` and closes. Intact means
    /// the bytes were ``BytePattern`` from its beginning.
    case sink
    /// Sends so many bytes of ``BytePattern`` and closes.
    case source(Int)
    /// Answers the first bytes with RST.
    case reset
    /// Accepts and then neither reads nor writes.
    case silent
  }

  /// The port it listens on.
  public let port: UInt16
  private let core: ServerLoop

  /// Listens; port 0 lets the kernel choose. Throws ``SystemError``.
  public convenience init(in holder: some NamespaceHolder, port: UInt16 = 0, _ behaviour: Behaviour) throws {
    try self.init(in: holder.place.namespace, port: port, behaviour)
  }

  /// The same in any network namespace.
  public init(in namespace: NetworkNamespace, port: UInt16 = 0, _ behaviour: Behaviour) throws {
    let listener = try namespace.enter {
      SharedDescriptor(
        Descriptor(
          owning: try system("socket") {
            socket(AF_INET6, CInt(SOCK_STREAM.rawValue) | O_CLOEXEC | O_NONBLOCK, 0)
          }))
    }
    var off: CInt = 0
    var on: CInt = 1
    let size = socklen_t(MemoryLayout<CInt>.size)
    try system("setsockopt") { setsockopt(listener.raw, CInt(IPPROTO_IPV6), IPV6_V6ONLY, &off, size) }
    try system("setsockopt") { setsockopt(listener.raw, SOL_SOCKET, SO_REUSEADDR, &on, size) }
    let any = SocketAddress(.any(.v6), port)
    try system("bind", "port \(port)") { any.withKernelForm { bind(listener.raw, $0, $1) } }
    try system("listen") { listen(listener.raw, 1024) }
    self.port = SocketAddress.fromKernel { getsockname(listener.raw, $0, $1) }?.port ?? port
    core = try ServerLoop(listener, behaviour)
    let core = core
    Thread.detachNewThread { core.run() }
  }

  deinit { core.stop() }

  /// Closes the listener and every connection.
  public func stop() { core.stop() }

  /// Where each connection so far came from, in the order of arrival.
  public var peers: [SocketAddress] { core.peers.withLock { $0 } }
}

/// The thread behind a ``TCPServer``: one poll over the listener, the connections and a wake-up.
private final class ServerLoop: Sendable {
  private struct Connection {
    let socket: SharedDescriptor
    var unsent: [UInt8] = []
    var received = 0
    var generated = 0
    var isIntact = true
    var hasPeerEnded = false
  }

  let peers = Mutex<[SocketAddress]>([])
  private let listener: SharedDescriptor
  private let behaviour: TCPServer.Behaviour
  private let wakeup: SharedDescriptor

  init(_ listener: SharedDescriptor, _ behaviour: TCPServer.Behaviour) throws {
    self.listener = listener
    self.behaviour = behaviour
    wakeup = SharedDescriptor(Descriptor(owning: try system("eventfd") { eventfd(0, O_CLOEXEC | O_NONBLOCK) }))
  }

  func stop() {
    var one: UInt64 = 1
    _ = write(wakeup.raw, &one, 8)
  }

  func run() {
    shutdownOnReturn: do {
      defer { shutdown(listener.raw, CInt(SHUT_RDWR)) }
      var connections: [CInt: Connection] = [:]
      while true {
        var entries = [
          pollfd(fd: wakeup.raw, events: Int16(POLLIN), revents: 0),
          pollfd(fd: listener.raw, events: Int16(POLLIN), revents: 0),
        ]
        entries += connections.values.map { pollfd(fd: $0.socket.raw, events: interest($0), revents: 0) }
        guard poll(&entries, nfds_t(entries.count), -1) >= 0 || errno == EINTR else { break shutdownOnReturn }
        if entries[0].revents != 0 { break shutdownOnReturn }
        if entries[1].revents != 0, let accepted = accept() { connections[accepted.socket.raw] = accepted }
        for entry in entries.dropFirst(2) where entry.revents != 0 {
          guard var connection = connections.removeValue(forKey: entry.fd) else { continue }
          if advance(&connection) { connections[entry.fd] = connection }
        }
      }
    }
  }

  private func interest(_ connection: Connection) -> Int16 {
    if case .silent = behaviour { return 0 }
    let reading = connection.hasPeerEnded || connection.unsent.count > 1 << 20 ? 0 : POLLIN
    return Int16(reading | (hasOutput(connection) ? POLLOUT : 0))
  }

  private func hasOutput(_ connection: Connection) -> Bool {
    if case .source(let count) = behaviour, connection.generated < count { return true }
    return !connection.unsent.isEmpty
  }

  private func accept() -> Connection? {
    var raw: CInt = -1
    let peer = inheritanceLock.withLock { _ in
      let peer = SocketAddress.fromKernel { address, length in
        raw = Glibc.accept(listener.raw, address, length)
        return raw
      }
      if raw >= 0 { try? setCloseOnExec(raw) }
      return peer
    }
    guard raw >= 0 else { return nil }
    let socket = SharedDescriptor(Descriptor(owning: raw))
    _ = ambient_fcntl_int(raw, F_SETFL, O_NONBLOCK)
    if let peer { peers.withLock { $0.append(peer) } }
    var connection = Connection(socket: socket)
    if case .greet(let text) = behaviour { connection.unsent = Array(text.utf8) }
    return connection
  }

  /// Reads and writes what can be. False when the connection is over.
  private func advance(_ connection: inout Connection) -> Bool {
    if !connection.hasPeerEnded, connection.unsent.count <= 1 << 20 {
      var chunk = [UInt8](repeating: 0, count: 262_144)
      let count = recv(connection.socket.raw, &chunk, chunk.count, 0)
      if count > 0 {
        guard take(chunk[..<count], &connection) else { return false }
      } else if count == 0 {
        connection.hasPeerEnded = true
        if case .sink = behaviour {
          connection.unsent += Array("bytes=\(connection.received) intact=\(connection.isIntact)".utf8)
        }
      } else if errno != EAGAIN, errno != EINTR {
        return false
      }
    }
    return flush(&connection)
  }

  private func take(_ bytes: ArraySlice<UInt8>, _ connection: inout Connection) -> Bool {
    switch behaviour {
    case .echo, .greet: connection.unsent += bytes
    case .sink:
      connection.isIntact = connection.isIntact && BytePattern.matches(bytes, at: connection.received)
    case .reset:
      setLinger0(connection.socket)
      return false
    case .source, .silent: break
    }
    connection.received += bytes.count
    return true
  }

  private func flush(_ connection: inout Connection) -> Bool {
    while hasOutput(connection) {
      if connection.unsent.isEmpty, case .source(let count) = behaviour {
        connection.unsent = Array(BytePattern.slice(at: connection.generated, count: count - connection.generated))
        connection.generated += connection.unsent.count
      }
      let sent = send(connection.socket.raw, connection.unsent, connection.unsent.count, CInt(MSG_NOSIGNAL))
      if sent < 0 { return errno == EAGAIN || errno == EINTR }
      connection.unsent.removeFirst(sent)
    }
    if case .source = behaviour { return false }
    return !connection.hasPeerEnded
  }
}

/// Makes closing a socket send RST.
func setLinger0(_ socket: SharedDescriptor) {
  var value = linger(l_onoff: 1, l_linger: 0)
  setsockopt(socket.raw, SOL_SOCKET, SO_LINGER, &value, socklen_t(MemoryLayout<linger>.size))
}
