import HTTP2
import Mesh
import Vocabulary

/// The fields of a CONNECT request and its answer (hbone.md §4, §5).
enum TunnelHeaders {
  /// A request for `route`, opened by `client` in the pod of `source`.
  static func request(
    _ route: TunnelRoute, from source: Workload, client: SocketAddress,
    using random: inout some RandomNumberGenerator
  ) -> HTTP2Headers {
    var forwarded = "for=\"\(client)\""
    if let service = route.service { forwarded += ";host=\(service.hostname)" }
    return HTTP2Headers([
      (":method", "CONNECT"), (":authority", route.authority.description), ("baggage", source.baggage),
      ("forwarded", forwarded),
      ("traceparent", traceparent(using: &random)),
    ])
  }

  /// A new W3C trace context: random trace and parent, not sampled.
  static func traceparent(using random: inout some RandomNumberGenerator) -> String {
    let (high, low, parent) = (random.next(), random.next(), random.next())
    // Digit by digit: every connection makes one.
    return String(unsafeUninitializedCapacity: 55) { text in
      var end = 0
      func put(_ byte: UInt8) {
        text[end] = byte
        end += 1
      }
      func put(hex value: UInt64) {
        for shift in stride(from: UInt64(60), through: 0, by: -4) {
          let digit = UInt8(truncatingIfNeeded: value >> shift) & 15
          put(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") - 10 + digit)
        }
      }
      for byte in "00-".utf8 { put(byte) }
      put(hex: high)
      put(hex: low)
      put(UInt8(ascii: "-"))
      put(hex: parent)
      for byte in "-00".utf8 { put(byte) }
      return end
    }
  }

  /// The `host` of the first `forwarded` line, without quotes; nil when there is none (hbone.md §4.2).
  static func forwardedHost(_ headers: HTTP2Headers) -> String? {
    // As bytes, which is many times quicker than as characters: every request brings one.
    guard let line = headers["forwarded"]?.utf8 else { return nil }
    for part in line.split(separator: UInt8(ascii: ";")) {
      let part = part.drop { $0 == UInt8(ascii: " ") }
      guard part.starts(with: "host=".utf8) else { continue }
      let host = part.dropFirst("host=".utf8.count).filter { $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: " ") }
      return host.isEmpty ? nil : String(decoding: host, as: UTF8.self)
    }
    return nil
  }
}
