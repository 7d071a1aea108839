import CNI
import Foundation
import Glibc
import Linux
import Synchronization

/// Listens in the agent's place, and answers each connection with what a closure says.
final class FakeAgent: Sendable {
  let directory: String
  private let listener: SharedDescriptor
  private let seen = Mutex<[String]>([])

  var requests: [String] { seen.withLock { $0 } }

  /// `reply` gets the whole request and returns the bytes to send before closing; nil keeps the connection open, silent.
  init(reply: @escaping @Sendable (String) -> String?) throws {
    directory = NSTemporaryDirectory() + "ambient-cni-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let socket = Descriptor(owning: try system("socket") { Glibc.socket(AF_UNIX, CInt(SOCK_STREAM.rawValue), 0) })
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let path = "\(directory)/\(PluginConfiguration.socketName)"
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
    let raw = socket.raw
    try withUnsafePointer(to: &address) { pointer in
      try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        _ = try system("bind", path) { bind(raw, pointer, socklen_t(MemoryLayout<sockaddr_un>.size)) }
      }
    }
    try system("listen") { listen(raw, 64) }
    listener = SharedDescriptor(socket)
    Thread.detachNewThread { [listener, weak self] in
      while true {
        let connection = accept(listener.raw, nil, nil)
        guard connection >= 0 else { return }
        guard let self else { return _ = close(connection) }
        Thread.detachNewThread { self.serve(connection, reply) }
      }
    }
  }

  deinit {
    shutdown(listener.raw, CInt(SHUT_RDWR))
    try? FileManager.default.removeItem(atPath: directory)
  }

  private func serve(_ connection: CInt, _ reply: (String) -> String?) {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = read(connection, &chunk, chunk.count)
      guard count > 0 else { break }
      bytes += chunk[..<count]
      let text = String(decoding: bytes, as: UTF8.self)
      guard let end = text.range(of: "\r\n\r\n"), text[end.upperBound...].hasSuffix("}") else { continue }
      seen.withLock { $0.append(text) }
      guard let answer = reply(text) else { continue }
      _ = answer.withCString { send(connection, $0, strlen($0), CInt(MSG_NOSIGNAL)) }
      break
    }
    close(connection)
  }

  static func http(_ status: Int, _ body: String) -> String {
    "HTTP/1.1 \(status) X\r\ncontent-length: \(body.utf8.count)\r\n\r\n\(body)"
  }
}
