import Glibc
import Linux
import Vocabulary

/// Asks a running ztunnel's admin server. Blocks, at most some seconds.
public struct AdminQuery: Sendable {
  /// Why there is no answer.
  public enum Failure: CodedError, Equatable {
    case badAddress(String)
    case notReachable(SocketAddress, SystemError)
    case notUnderstood(SocketAddress)
    case refused(SocketAddress, status: Int, text: String)
    case tooLarge(SocketAddress, limit: Int)

    public var code: String {
      switch self {
      case .badAddress: "ADMIN_BAD_ADDRESS"
      case .notReachable: "ADMIN_NOT_REACHABLE"
      case .notUnderstood: "ADMIN_NOT_UNDERSTOOD"
      case .refused: "ADMIN_REFUSED"
      case .tooLarge: "ADMIN_TOO_LARGE"
      }
    }

    public var summary: String {
      switch self {
      case .badAddress(let text): "\(text) is no address with a port"
      case .notReachable(let address, let error): "no ztunnel answers at \(address): \(error.reason)"
      case .notUnderstood(let address): "what answers at \(address) is no ztunnel"
      case .refused(let address, let status, let text): "\(address) answered \(status): \(text)"
      case .tooLarge(let address, let limit): "\(address) answered more than \(limit) bytes"
      }
    }

    public var remedy: String? {
      switch self {
      case .badAddress: "give it as 127.0.0.1:15000"
      case .notReachable: "check that ztunnel runs in this network namespace, or give a dump: --dump FILE"
      case .notUnderstood: "check --admin"
      case .refused, .tooLarge: nil
      }
    }
  }

  /// What came back.
  public struct Answer: Sendable {
    public var status: Int
    /// Names in lower case.
    public var headers: [String: String]
    public var body: [UInt8]
  }

  public static let defaultAddress = "127.0.0.1:15000"
  private static let timeoutSeconds = 10
  /// An upgrade takes as long as the next ztunnel's start.
  private static let longTimeoutSeconds = 120
  private static let mostBytes = 256 << 20

  public let address: SocketAddress

  /// Throws ``Failure``. `localhost` is understood.
  public init(address text: String) throws(Failure) {
    let numeric = text.hasPrefix("localhost:") ? "127.0.0.1" + text.dropFirst("localhost".count) : text
    guard let address = SocketAddress(numeric) else { throw .badAddress(text) }
    self.address = address
  }

  /// Sends a GET and takes the whole answer. Throws ``Failure`` for any status that is not in `accepted`.
  public func get(
    _ path: String, query: [(String, String)] = [], accepted: Set<Int> = [200]
  ) throws(Failure) -> Answer {
    let encoded = query.map { "\($0)=\(Self.escaped($1))" }.joined(separator: "&")
    let target = encoded.isEmpty ? path : "\(path)?\(encoded)"
    return try ask("GET \(target)", accepted: accepted)
  }

  /// Sends a POST without a body, and waits up to two minutes for the answer. Throws ``Failure`` for any status but 200.
  public func post(_ path: String) throws(Failure) -> Answer {
    try ask("POST \(path)", "content-length: 0\r\n", accepted: [200], timeoutSeconds: Self.longTimeoutSeconds)
  }

  private func ask(
    _ question: String, _ headers: String = "", accepted: Set<Int>, timeoutSeconds: Int = Self.timeoutSeconds
  ) throws(Failure) -> Answer {
    let bytes: [UInt8]
    do throws(SystemError) {
      // By 1.0 the body is not cut into chunks.
      bytes = try exchange(
        "\(question) HTTP/1.0\r\nhost: localhost\r\n\(headers)connection: close\r\n\r\n", timeoutSeconds)
    } catch { throw .notReachable(address, error) }
    guard bytes.count <= Self.mostBytes else { throw .tooLarge(address, limit: Self.mostBytes) }
    guard let answer = Self.parse(bytes) else { throw .notUnderstood(address) }
    guard accepted.contains(answer.status) else {
      let text = String(decoding: answer.body.prefix(512), as: UTF8.self).filter { $0 != "\n" }
      throw .refused(address, status: answer.status, text: text)
    }
    return answer
  }

  private func exchange(_ request: String, _ timeoutSeconds: Int) throws(SystemError) -> [UInt8] {
    let descriptor = try TCPSocket.make(address.ip.family)
    let raw = descriptor.raw
    // Blocking, with a limit on each step.
    try system("fcntl") { fcntl(raw, F_SETFL, 0) }
    var limit = timeval(tv_sec: timeoutSeconds, tv_usec: 0)
    for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
      try system("setsockopt") {
        setsockopt(raw, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
      }
    }
    _ = try TCPSocket.connect(raw, address.ip.family, to: address)
    let question = Array(request.utf8)
    try system("send") { send(raw, question, question.count, CInt(MSG_NOSIGNAL)) }
    var answer: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 256 << 10)
    while answer.count <= Self.mostBytes {
      let count = try system("recv") { recv(raw, &chunk, chunk.count, 0) }
      if count == 0 { break }
      answer += chunk.prefix(count)
    }
    return answer
  }

  /// Nil for bytes that are no whole answer.
  static func parse(_ bytes: [UInt8]) -> Answer? {
    let head = bytes.prefix(64 << 10)
    guard let end = head.firstRange(of: Array("\r\n\r\n".utf8)) else { return nil }
    var lines = String(decoding: head[..<end.lowerBound], as: UTF8.self).split(separator: "\r\n")[...]
    let words = lines.popFirst()?.split(separator: " ") ?? []
    guard words.count >= 2, words[0] == "HTTP/1.1" || words[0] == "HTTP/1.0", let status = Int(words[1]) else {
      return nil
    }
    var headers: [String: String] = [:]
    for line in lines {
      guard let colon = line.firstIndex(of: ":") else { return nil }
      headers[line[..<colon].lowercased()] = String(line[line.index(after: colon)...].drop { $0 == " " })
    }
    let body = Array(bytes[end.upperBound...])
    if let length = headers["content-length"] {
      guard Int(length) == body.count else { return nil }
    }
    // Bodies whose length only the end of the connection tells must not be taken apart here.
    guard headers["transfer-encoding"] == nil else { return nil }
    return Answer(status: status, headers: headers, body: body)
  }

  /// Everything but letters, digits and `-._~` as `%XX` (RFC 3986 §2.3).
  static func escaped(_ text: String) -> String {
    let digits = Array("0123456789ABCDEF")
    var result = ""
    for byte in text.utf8 {
      switch byte {
      case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f, 0x7e:
        result.unicodeScalars.append(Unicode.Scalar(byte))
      default: result += "%\(digits[Int(byte >> 4)])\(digits[Int(byte & 15)])"
      }
    }
    return result
  }
}
