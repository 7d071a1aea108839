import JSON

/// One request to an API server.
public struct APIRequest: Equatable, Sendable, CustomStringConvertible {
  public enum Method: String, Sendable {
    case get = "GET"
    case post = "POST"
    case patch = "PATCH"
    case delete = "DELETE"
  }

  public var method: Method
  /// Begins with `/`; of characters that need no escape.
  public var path: String
  public var query: [(name: String, value: String)] = []
  public var body: [UInt8] = []
  public var contentType: String?

  public init(_ method: Method = .get, _ path: String, query: [(name: String, value: String)] = []) {
    self.method = method
    self.path = path
    self.query = query
  }

  /// With a JSON body.
  public init(_ method: Method, _ path: String, _ body: JSONValue, contentType: String = "application/json") {
    self.method = method
    self.path = path
    self.body = body.bytes
    self.contentType = contentType
  }

  /// RFC 7396.
  public static func mergePatch(_ path: String, _ patch: JSONValue) -> APIRequest {
    APIRequest(.patch, path, patch, contentType: "application/merge-patch+json")
  }

  /// Path and query as they stand in `:path`.
  public var target: String {
    guard !query.isEmpty else { return path }
    return path + "?" + query.map { "\(Self.escaped($0.name))=\(Self.escaped($0.value))" }.joined(separator: "&")
  }

  public var description: String { "\(method.rawValue) \(path)" }

  public static func == (one: APIRequest, other: APIRequest) -> Bool {
    one.method == other.method && one.target == other.target && one.body == other.body
      && one.contentType == other.contentType
  }

  /// RFC 3986 §2.3: everything but unreserved characters is escaped.
  static func escaped(_ text: String) -> String {
    let digits = Array("0123456789ABCDEF".utf8)
    var bytes: [UInt8] = []
    for byte in text.utf8 {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
        UInt8(ascii: "~"):
        bytes.append(byte)
      default: bytes += [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
      }
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
