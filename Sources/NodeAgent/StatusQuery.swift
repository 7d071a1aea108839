import Glibc
import Linux
import Vocabulary
import ZDS

/// Asks a running agent for its status. Blocks, at most some seconds.
public struct StatusQuery {
  /// Why there is no status.
  public enum Failure: CodedError, Equatable {
    case notReachable(path: String, SystemError)
    case badPath(String)
    case notUnderstood(path: String)

    public var code: String {
      switch self {
      case .notReachable: "STATUS_NOT_REACHABLE"
      case .badPath: "STATUS_BAD_PATH"
      case .notUnderstood: "STATUS_NOT_UNDERSTOOD"
      }
    }

    public var summary: String {
      switch self {
      case .notReachable(let path, let error): "no node agent answers at \(path): \(error.reason)"
      case .badPath(let path): "\(path) cannot be the path of a unix socket"
      case .notUnderstood(let path): "what answers at \(path) is no node agent"
      }
    }

    public var remedy: String? {
      switch self {
      case .notReachable(_, let error) where error.number == EACCES || error.number == EPERM: "run as root"
      case .notReachable: "check that the node agent runs, and that AMBIENT_STATUS_SOCKET is the same for both"
      case .badPath: "give an absolute path of at most 107 bytes"
      case .notUnderstood: "check AMBIENT_STATUS_SOCKET"
      }
    }
  }

  /// What an agent answered.
  public struct Answer: Equatable, Sendable {
    public var text: String
    /// Everything is as wanted.
    public var isAsWanted: Bool
  }

  private static let maximumBytes = 64 << 20
  private static let timeoutSeconds = 5

  /// `json` or a table. Throws ``Failure``.
  public static func ask(path: String, json: Bool) throws(Failure) -> Answer {
    guard let socketPath = try? UnixSocketPath(path) else { throw .badPath(path) }
    let bytes: [UInt8]
    do throws(SystemError) {
      bytes = try exchange(
        "GET /status\(json ? "" : ".txt") HTTP/1.1\r\nhost: node-agent\r\nconnection: close\r\n\r\n", socketPath)
    } catch { throw .notReachable(path: path, error) }
    guard let answer = parse(bytes) else { throw .notUnderstood(path: path) }
    return answer
  }

  /// Nil for bytes that are no whole answer of ours.
  static func parse(_ bytes: [UInt8]) -> Answer? {
    let end = Array("\r\n\r\n".utf8)
    guard let split = bytes.firstRange(of: end) else { return nil }
    let lines = String(decoding: bytes[..<split.lowerBound], as: UTF8.self).split(separator: "\r\n")
    let words = lines.first?.split(separator: " ") ?? []
    let length = lines.dropFirst().first { $0.lowercased().hasPrefix("content-length:") }
      .flatMap { Int($0.dropFirst("content-length:".count).drop { $0 == " " }) }
    let body = bytes[split.upperBound...]
    guard words.count >= 2, words[0] == "HTTP/1.1", words[1] == "200" || words[1] == "503", body.count == length else {
      return nil
    }
    return Answer(text: String(decoding: body, as: UTF8.self), isAsWanted: words[1] == "200")
  }

  private static func exchange(_ request: String, _ path: UnixSocketPath) throws(SystemError) -> [UInt8] {
    let descriptor = try path.connectedStream(timeoutSeconds: timeoutSeconds)
    let raw = descriptor.raw
    let question = Array(request.utf8)
    try system("send", path.text) { send(raw, question, question.count, CInt(MSG_NOSIGNAL)) }
    var answer: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while answer.count <= maximumBytes {
      let count = try system("recv", path.text) { recv(raw, &chunk, chunk.count, 0) }
      if count == 0 { break }
      answer += chunk.prefix(count)
    }
    return answer
  }
}
