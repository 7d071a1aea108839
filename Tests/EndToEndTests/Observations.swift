import Foundation
import Linux
import Testing
import Vocabulary

@testable import TestSupport

extension RunningProcess {
  /// The first line that holds all the texts; nil when none came in time.
  func waitForLine(_ texts: String..., within limit: Duration = .seconds(10)) -> String? {
    var found: String?
    _ = eventually(within: limit) {
      found = lines.first { line in texts.allSatisfy(line.contains) }
      return found != nil || !isRunning
    }
    return found ?? lines.first { line in texts.allSatisfy(line.contains) }
  }

  /// Whether a line holds all the texts, now.
  func hasLine(_ texts: String...) -> Bool {
    lines.contains { line in texts.allSatisfy(line.contains) }
  }
}

/// How a connection ended for the application that had it.
enum ConnectionEnd: Equatable {
  case orderly
  case reset
  /// It is still open after the time given.
  case none
}

extension TCPClient {
  /// Connects, says something, and reads until the connection is over. Where the redirection answers for an
  /// unreachable peer, the reset may come before the connect has been noticed to succeed.
  func end(of address: SocketAddress, saying text: String = "anybody there?") throws -> ConnectionEnd {
    do {
      let connection = try connect(to: address)
      try connection.send(text)
      return try connection.end()
    } catch let error as SystemError where [ECONNRESET, EPIPE].contains(error.number) {
      return .reset
    }
  }
}

extension TCPConnection {
  /// Reads, and drops, until the connection is over.
  func end(within limit: Duration = .seconds(10)) throws -> ConnectionEnd {
    do {
      _ = try receiveToEnd(timeout: limit)
      return .orderly
    } catch let error as SystemError where error.number == ECONNRESET {
      return .reset
    } catch TCPTestError.timedOut {
      return .none
    }
  }
}

extension NamespaceHolder {
  /// Established TCP connections of the place as `ss` filters them, such as `dport = :15008`.
  func establishedConnections(_ filter: String) throws -> Int {
    try mustRun(["ss", "-Htn", "state", "established", filter]).split(separator: "\n").count
  }

  /// Ports on which something listens.
  var listeningPorts: Set<UInt16> {
    get throws {
      Set(
        try mustRun(["ss", "-Htln"]).split(separator: "\n").compactMap { line in
          line.split(separator: " ", omittingEmptySubsequences: true).dropFirst(3).first
            .flatMap { $0.split(separator: ":").last }.flatMap { UInt16($0) }
        })
    }
  }

  /// The mesh's NAT rules of both families with what they have counted, as `iptables-save -c` prints them. Without the
  /// jumps to them, which also count the multicast that bridges send of their own accord.
  var countedRules: [String] {
    get throws {
      try ["iptables-legacy-save", "ip6tables-legacy-save"].flatMap { command in
        try mustRun([command, "-c", "-t", "nat"]).split(separator: "\n").map(String.init)
          .filter { $0.contains("-A ISTIO_") }
      }
    }
  }
}

/// A listening socket that a test accepts from itself, to act as both ends of a connection.
final class TCPListener: Sendable {
  private let socket: SharedDescriptor
  let port: UInt16

  /// Listens on every address of both families. Throws ``SystemError``.
  init(in holder: some NamespaceHolder, port: UInt16) throws {
    let socket = try holder.place.namespace.enter {
      SharedDescriptor(
        Descriptor(
          owning: try system("socket") {
            Glibc.socket(AF_INET6, CInt(SOCK_STREAM.rawValue) | O_CLOEXEC | O_NONBLOCK, 0)
          }))
    }
    var (off, on): (CInt, CInt) = (0, 1)
    let size = socklen_t(MemoryLayout<CInt>.size)
    try system("setsockopt") { setsockopt(socket.raw, CInt(IPPROTO_IPV6), IPV6_V6ONLY, &off, size) }
    try system("setsockopt") { setsockopt(socket.raw, SOL_SOCKET, SO_REUSEADDR, &on, size) }
    try system("bind", "port \(port)") { SocketAddress(.any(.v6), port).withKernelForm { bind(socket.raw, $0, $1) } }
    try system("listen") { listen(socket.raw, 128) }
    self.socket = socket
    self.port = port
  }

  /// The next connection. Throws ``TCPTestError/timedOut(_:)``.
  func accept(within limit: Duration = .seconds(10)) throws -> TCPConnection {
    var entry = pollfd(fd: socket.raw, events: Int16(POLLIN), revents: 0)
    let ready = try system("poll") { poll(&entry, 1, CInt(limit / .milliseconds(1))) }
    guard ready > 0 else { throw TCPTestError.timedOut("accepting on port \(port)") }
    guard let accepted = try TCPSocket.accept(socket.raw) else { throw TCPTestError.timedOut("a connection that left") }
    return TCPConnection(SharedDescriptor(accepted.take()))
  }
}
