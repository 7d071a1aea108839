import TestSupport
import Testing
import Vocabulary

/// A PROXY protocol v2 header as an application reads it from the start of a connection (hbone.md §13), by the
/// published format, not by the code under test.
struct AppTunnelHeader: Equatable {
  var source: SocketAddress?
  var destination: SocketAddress?
  /// By type.
  var values: [UInt8: String] = [:]

  /// Reads exactly the header. Throws when there is none.
  init(from connection: TCPConnection) throws {
    let start = try connection.receive(16)
    try #require(start.prefix(12) == [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a])
    try #require(start[12] == 0x21, "version 2, PROXY")
    let body = try connection.receive(Int(start[14]) << 8 | Int(start[15]))
    let width: Int
    switch start[13] {
    case 0x11: width = 4
    case 0x21: width = 16
    default: width = 0
    }
    var rest = body[...]
    if width > 0 {
      let addresses = Array(rest.prefix(2 * width + 4))
      try #require(addresses.count == 2 * width + 4)
      rest = rest.dropFirst(addresses.count)
      let ports = addresses.suffix(4).map(UInt16.init)
      source = IPAddress(bytes: addresses[..<width]).map { SocketAddress($0, ports[0] << 8 | ports[1]) }
      destination = IPAddress(bytes: addresses[width..<2 * width]).map {
        SocketAddress($0, ports[2] << 8 | ports[3])
      }
    }
    while !rest.isEmpty {
      let head = Array(rest.prefix(3))
      try #require(head.count == 3)
      let value = rest.dropFirst(3).prefix(Int(head[1]) << 8 | Int(head[2]))
      values[head[0]] = String(decoding: value, as: UTF8.self)
      rest = rest.dropFirst(3 + value.count)
    }
  }
}
