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
      (":method", "CONNECT"), (":authority", route.authority), ("baggage", source.baggage), ("forwarded", forwarded),
      ("traceparent", traceparent(using: &random)),
    ])
  }

  /// A new W3C trace context: random trace and parent, not sampled.
  static func traceparent(using random: inout some RandomNumberGenerator) -> String {
    "00-\(hex(random.next()))\(hex(random.next()))-\(hex(random.next()))-00"
  }

  private static func hex(_ value: UInt64) -> String {
    let digits = String(value, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }

  /// The `host` of the first `forwarded` line, without quotes; nil when there is none (hbone.md §4.2).
  static func forwardedHost(_ headers: HTTP2Headers) -> String? {
    guard let line = headers["forwarded"] else { return nil }
    for part in line.split(separator: ";") {
      let part = part.drop { $0 == " " }
      guard part.hasPrefix("host=") else { continue }
      let host = part.dropFirst("host=".count).filter { $0 != "\"" && $0 != " " }
      return host.isEmpty ? nil : host
    }
    return nil
  }
}
