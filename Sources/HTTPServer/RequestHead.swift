/// A request line and its header fields, checked (RFC 9112).
struct RequestHead: Equatable {
  enum Length: Equatable {
    case fixed(Int)
    case chunked
  }

  let method: String
  let path: String
  let query: String
  let headers: HTTPHeaders
  let length: Length
  /// The client wants the connection to go on after the answer.
  let keepsAlive: Bool
  let speaksHTTP11: Bool

  /// The client waits for leave to send its body.
  var expectsContinue: Bool { speaksHTTP11 && headers["expect"]?.lowercased() == "100-continue" }

  /// Length of the head at the beginning of `bytes`, its empty line included; nil while that has not come.
  static func length(in bytes: [UInt8], from start: Int) -> Int? {
    var index = max(3, start)
    while index < bytes.count {
      if bytes[index] == 10, bytes[index - 1] == 13, bytes[index - 2] == 10, bytes[index - 3] == 13 {
        return index + 1
      }
      index += 1
    }
    return nil
  }

  /// Parses a whole head, its empty line included. Lines end in CRLF and nothing else: being lenient about that is how
  /// two parsers come to see two different requests. Throws ``HTTPRequestError``.
  init(_ bytes: ArraySlice<UInt8>, limits: HTTPLimits) throws(HTTPRequestError) {
    var lines = try Self.lines(bytes)
    guard let first = lines.popFirst() else { throw .malformed("there is no request line") }
    let words = first.split(separator: 0x20, omittingEmptySubsequences: false)
    guard words.count == 3 else { throw .malformed("the request line has not three words") }
    guard !words[0].isEmpty, words[0].allSatisfy(Self.isTokenByte), words[0].count <= 32 else {
      throw .malformed("the method is no word")
    }
    method = String(decoding: words[0], as: UTF8.self)
    switch String(decoding: words[2], as: UTF8.self) {
    case "HTTP/1.1": speaksHTTP11 = true
    case "HTTP/1.0": speaksHTTP11 = false
    case let other where other.hasPrefix("HTTP/"): throw .unsupportedVersion
    default: throw .malformed("the request line names no protocol")
    }
    (path, query) = try Self.target(words[1])
    guard lines.count <= limits.headerFields else { throw .headTooLarge }
    var headers = HTTPHeaders()
    for line in lines {
      let (name, value) = try Self.field(line)
      headers.append(name, value)
    }
    self.headers = headers
    let hosts = headers.all("host").count
    guard hosts == 1 || (hosts == 0 && !speaksHTTP11) else { throw .malformed("there must be one Host field") }
    length = try Self.length(headers, speaksHTTP11)
    keepsAlive = speaksHTTP11 && !headers.list("connection").contains("close")
  }

  private static func lines(_ bytes: ArraySlice<UInt8>) throws(HTTPRequestError) -> ArraySlice<ArraySlice<UInt8>> {
    var lines: [ArraySlice<UInt8>] = []
    var start = bytes.startIndex
    var index = start
    while index < bytes.endIndex {
      switch bytes[index] {
      case 13:
        guard index + 1 < bytes.endIndex, bytes[index + 1] == 10 else { throw .malformed("a line ends in CR alone") }
        if index == start { return lines[...] }
        lines.append(bytes[start..<index])
        index += 2
        start = index
        continue
      case 10: throw .malformed("a line ends in LF alone")
      case 0: throw .malformed("there is a zero byte")
      default: index += 1
      }
    }
    throw .malformed("the head has no end")
  }

  private static func target(_ word: ArraySlice<UInt8>) throws(HTTPRequestError) -> (path: String, query: String) {
    guard word.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else { throw .malformed("the target has a forbidden byte") }
    var text = String(decoding: word, as: UTF8.self)[...]
    if text.lowercased().hasPrefix("http://") {
      // The form that is sent to proxies, which every server must understand (RFC 9112 §3.2.2).
      text = text.dropFirst(7)
      text = text.firstIndex { $0 == "/" || $0 == "?" }.map { text[$0...] } ?? "/"
      if text.first == "?" { text = "/\(text)" }
    }
    guard text.first == "/" || text == "*" else { throw .malformed("the target is no path") }
    let parts = text.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    guard let path = PercentCoding.decode(parts[0], plusIsSpace: false) else {
      throw .malformed("the path has a broken percent sign")
    }
    return (path, parts.count > 1 ? String(parts[1]) : "")
  }

  private static func field(_ line: ArraySlice<UInt8>) throws(HTTPRequestError) -> (String, String) {
    guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > line.startIndex else {
      throw .malformed("a header field has no name")
    }
    let name = line[..<colon]
    // A space before the colon, or at the beginning of a line (folding), is refused with it.
    guard name.allSatisfy(isTokenByte) else { throw .malformed("a header field's name has a forbidden byte") }
    var value = line[(colon + 1)...]
    while let first = value.first, first == 0x20 || first == 0x09 { value.removeFirst() }
    while let last = value.last, last == 0x20 || last == 0x09 { value.removeLast() }
    guard value.allSatisfy({ ($0 >= 0x20 && $0 != 0x7f) || $0 == 0x09 }) else {
      throw .malformed("a header field's value has a forbidden byte")
    }
    return (String(decoding: name, as: UTF8.self), String(decoding: value, as: UTF8.self))
  }

  private static func length(_ headers: HTTPHeaders, _ speaksHTTP11: Bool) throws(HTTPRequestError) -> Length {
    let codings = headers.list("transfer-encoding")
    let lengths = headers.all("content-length")
    if !codings.isEmpty {
      guard lengths.isEmpty, speaksHTTP11 else { throw .malformed("the body has two lengths") }
      guard codings == ["chunked"] else { throw .unsupportedTransferCoding }
      return .chunked
    }
    guard let text = lengths.first else { return .fixed(0) }
    guard lengths.count == 1, !text.isEmpty, text.utf8.count <= 18,
      text.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
      let number = Int(text)
    else { throw .malformed("Content-Length is no number") }
    return .fixed(number)
  }

  private static func isTokenByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5a, 0x61...0x7a: true
    case 0x21, 0x23...0x27, 0x2a, 0x2b, 0x2d, 0x2e, 0x5e...0x60, 0x7c, 0x7e: true
    default: false
    }
  }
}
