import Testing
import YAML

@Suite("Reading YAML")
struct YAMLReaderTests {
  private static func read(_ text: String) throws(YAMLError) -> YAMLNode? { try YAMLReader.document(text.utf8) }

  @Test("scalars, lists and maps come with their places and tags")
  func structure() throws {
    let root = try #require(try Self.read("a: 1\nb: [x, 'y']\nc: !Exact\n  d: |\n    text\n"))
    #expect(root["a"]?.plainScalar == "1")
    #expect(root["b"]?.sequence?.map(\.scalar) == ["x", "y"])
    #expect(root["b"]?.sequence?.map(\.plainScalar) == ["x", nil])
    #expect(root["c"]?.tag == "!Exact")
    #expect(root["c"]?["d"]?.scalar == "text\n")
    #expect(root["b"]?.mark == YAMLMark(line: 2, column: 4))
  }

  @Test("JSON is YAML")
  func json() throws {
    let root = try #require(try Self.read(#"{"a": {"b": [1, "\u00e9"]}, "c": null}"#))
    #expect(root["a"]?["b"]?.sequence?.map(\.scalar) == ["1", "é"])
    #expect(root["c"]?.plainScalar == "null")
  }

  @Test("a text of nothing but comments has no document", arguments: ["", "# nothing\n", "\n\n"])
  func empty(_ text: String) throws { #expect(try Self.read(text) == nil) }

  @Test("a stream has several documents, up to a limit")
  func stream() throws {
    let text = "a\n---\nb\n---\nc\n"
    #expect(try YAMLReader.documents(text.utf8, limit: 3).map(\.scalar) == ["a", "b", "c"])
    #expect(throws: YAMLError.tooManyDocuments(YAMLMark(line: 4, column: 1), limit: 2)) {
      try YAMLReader.documents(text.utf8, limit: 2)
    }
  }

  @Test(
    "anchors and aliases are refused wherever they are",
    arguments: [("a: &x 1", 4), ("- *x", 3), ("&a {b: c}", 1), ("? [&k a]\n: b", 4), ("&s [a]", 1)])
  func anchors(_ text: String, _ column: Int) {
    #expect(throws: YAMLError.anchor(YAMLMark(line: 1, column: column))) { try Self.read(text) }
  }

  @Test("a key that is there twice is refused where it is the second time")
  func repeatedKey() {
    #expect(throws: YAMLError.repeatedKey(YAMLMark(line: 2, column: 1), "a")) { try Self.read("a: 1\na: 2\n") }
  }

  @Test("what is not YAML is refused with its line", arguments: [("a: [", 2), ("a: b: c", 1), ("a: 1\n\tb: 2", 2)])
  func syntax(_ text: String, _ line: Int) {
    let error = #expect(throws: YAMLError.self) { try Self.read(text) }
    guard case .syntax(let mark, _) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
    #expect((line - 1...line + 1).contains(mark.line))
  }

  @Test("bytes that are not UTF-8 are refused", arguments: [[0xff, 0xfe, 0x61, 0x00], [0xc3, 0x28], [0x61, 0x00]])
  func notText(_ bytes: [UInt8]) { #expect(throws: YAMLError.self) { try YAMLReader.document(bytes) } }

  @Test(
    "nesting ends at a limit, in every notation",
    arguments: [
      String(repeating: "[", count: 100_000), String(repeating: "{a: ", count: 100_000),
      String(repeating: "- ", count: 20_000), String(repeating: "? ", count: 20_000),
      (0..<2000).map { String(repeating: " ", count: $0) + "a:" }.joined(separator: "\n"),
    ])
  func depth(_ text: String) {
    let error = #expect(throws: YAMLError.self) { try Self.read(text) }
    guard case .tooDeep(_, limit: YAMLReader.maximumDepth) = error else {
      Issue.record("\(String(describing: error))")
      return
    }
  }
}
