import Testing

@testable import HTTPServer

@Suite("What counts as a request")
struct RequestHeadTests {
  private func parse(_ text: String) throws(HTTPRequestError) -> RequestHead {
    try RequestHead(Array(text.utf8)[...], limits: HTTPLimits())
  }

  @Test("a plain request is understood")
  func plain() throws {
    let head = try parse("GET /a%20b?level=a%2Cb&reset&x=1+2 HTTP/1.1\r\nHost: x\r\nAccept:  text/plain \r\n\r\n")
    #expect(head.method == "GET")
    #expect(head.path == "/a b")
    #expect(head.headers["accept"] == "text/plain")
    #expect(head.length == .fixed(0))
    #expect(head.keepsAlive)
    let query = PercentCoding.query(head.query)
    #expect(query.map(\.name) == ["level", "reset", "x"])
    #expect(query.map(\.value) == ["a,b", "", "1 2"])
  }

  @Test("the absolute form is a path too")
  func absolute() throws {
    #expect(try parse("GET http://host:1/x?y=z HTTP/1.1\r\nHost: host\r\n\r\n").path == "/x")
    #expect(try parse("GET http://host HTTP/1.1\r\nHost: host\r\n\r\n").path == "/")
  }

  @Test("the connection ends after the answer where the client or its version says so")
  func ending() throws {
    #expect(try !parse("GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, Close\r\n\r\n").keepsAlive)
    #expect(try !parse("GET / HTTP/1.0\r\n\r\n").keepsAlive)
  }

  @Test(
    "what two parsers could understand differently is refused",
    arguments: [
      "GET / HTTP/1.1\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
      "GET / HTTP/1.1\nHost: a\n\r\n\r\n",
      "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
      "GET /\r\nHost: a\r\n\r\n",
      "GE T / HTTP/1.1\r\nHost: a\r\n\r\n",
      "G(T / HTTP/1.1\r\nHost: a\r\n\r\n",
      " / HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET x HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET /%2 HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET /\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n",
      "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nno-colon\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nx: a\0b\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nx: a\rb\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
      "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ])
  func ambiguous(_ text: String) {
    #expect { try parse(text) } throws: { ($0 as? HTTPRequestError)?.status == 400 }
  }

  @Test("other versions, codings and too many fields have their own answers")
  func otherRefusals() {
    #expect(throws: HTTPRequestError.unsupportedVersion) { try parse("GET / HTTP/2.0\r\nHost: a\r\n\r\n") }
    #expect(throws: HTTPRequestError.unsupportedTransferCoding) {
      try parse("GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")
    }
    let fields = String(repeating: "a: b\r\n", count: 101)
    #expect(throws: HTTPRequestError.headTooLarge) { try parse("GET / HTTP/1.1\r\nHost: a\r\n\(fields)\r\n") }
  }

  @Test("a chunked body may come in any pieces", arguments: 1...20)
  func chunked(_ piece: Int) throws {
    let bytes = Array("4;ext=1\r\nabcd\r\nA\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nGET".utf8)
    var body = ChunkedBody(limit: 100)
    var buffer: [UInt8] = []
    var isOver = false
    for start in stride(from: 0, to: bytes.count, by: piece) {
      buffer += bytes[start..<min(bytes.count, start + piece)]
      if !isOver { isOver = try body.receive(&buffer) }
    }
    #expect(isOver)
    #expect(String(decoding: body.bytes, as: UTF8.self) == "abcd0123456789")
    #expect(String(decoding: buffer, as: UTF8.self) == "GET")
  }

  @Test(
    "a broken chunked body is refused",
    arguments: ["x\r\n", "-1\r\n", "+1\r\n", "\r\n", "1\nab", "1\r\nab\r\n", "fffffffff\r\n", "65\r\n"])
  func brokenChunks(_ text: String) {
    var body = ChunkedBody(limit: 100)
    var buffer = Array(text.utf8)
    #expect(throws: HTTPRequestError.self) { try body.receive(&buffer) }
  }

  @Test("no random bytes crash the parser")
  func random() {
    var random = SystemRandomNumberGenerator()
    let valid = Array("POST /x?y=%20 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".utf8)
    for _ in 0..<5000 {
      var bytes = valid
      for _ in 0..<Int.random(in: 1...6, using: &random) {
        bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
      }
      if let head = try? RequestHead(bytes[...], limits: HTTPLimits()) { #expect(!head.method.isEmpty) }
      var body = ChunkedBody(limit: 64)
      _ = try? body.receive(&bytes)
    }
  }
}
