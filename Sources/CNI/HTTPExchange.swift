/// One HTTP/1.1 request over a connection of its own, and the answer to it: all of HTTP that the plugin needs.
public enum HTTPExchange {
  /// Longest answer that is read.
  public static let largestAnswer = 128 << 10

  public struct Answer: Equatable, Sendable {
    public let status: Int
    public let body: [UInt8]

    public init(status: Int, body: [UInt8]) {
      self.status = status
      self.body = body
    }
  }

  public static func request(_ path: String, body: [UInt8]) -> [UInt8] {
    let head = """
      POST \(path) HTTP/1.1\r
      Host: node-agent\r
      Content-Type: application/json\r
      Content-Length: \(body.count)\r
      Connection: close\r
      \r

      """
    return Array(head.utf8) + body
  }

  /// Reads everything a server has sent until it closed the connection. Nil when that is no whole answer.
  public static func answer(_ bytes: [UInt8]) -> Answer? {
    guard let end = headEnd(bytes) else { return nil }
    let lines = String(decoding: bytes[..<end], as: UTF8.self).split(separator: "\r\n")
    guard let first = lines.first, first.hasPrefix("HTTP/1.1 ") || first.hasPrefix("HTTP/1.0 "),
      let status = Int(first.dropFirst(9).prefix(3)), 200...599 ~= status
    else { return nil }
    let body = Array(bytes[(end + 4)...])
    for line in lines.dropFirst() {
      guard let colon = line.firstIndex(of: ":") else { return nil }
      let value = line[line.index(after: colon)...].drop { $0 == " " }
      switch line[..<colon].lowercased() {
      // A server that cannot know the length of what is this short is not ours.
      case "transfer-encoding": return nil
      case "content-length":
        guard let length = Int(value), length >= 0, length <= body.count else { return nil }
        return Answer(status: status, body: Array(body[..<length]))
      default: break
      }
    }
    return Answer(status: status, body: body)
  }

  private static func headEnd(_ bytes: [UInt8]) -> Int? {
    let mark = Array("\r\n\r\n".utf8)
    guard bytes.count >= mark.count else { return nil }
    return (0...(bytes.count - mark.count)).first { bytes[$0..<($0 + mark.count)].elementsEqual(mark) }
  }
}
