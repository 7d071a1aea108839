import Testing
import Vocabulary

@testable import JSON

@Suite("JSON")
struct JSONTests {
  private func parsed(_ text: String) throws -> JSONValue { try JSONValue.parse(Array(text.utf8)) }

  @Test(
    "comes out as it went in, member order and digits included",
    arguments: [
      "null", "true", "false", "0", "-0", "1e400", "0.10", "-12.5E+3", "123456789012345678901234567890",
      #""""#, #""a\"b\\c""#, #""é€😀""#, "[]", "{}", #"[1,[2,{"z":[]}],null]"#, #"{"z":1,"a":{"y":"x"},"m":[true]}"#,
      #"{"a":1,"a":2}"#,
    ])
  func faithful(text: String) throws {
    #expect(try parsed(text).text == text)
  }

  @Test(
    "escapes are understood",
    arguments: [
      (#""\b\f\n\r\t\/""#, "\u{08}\u{0c}\n\r\t/"), (#""\u0041\u00e9""#, "Aé"), (#""\ud83d\ude00""#, "😀"),
      (#""\ud83d""#, "\u{fffd}"), (#""\ud83dx""#, "\u{fffd}x"), (#""\ud83d\u0041""#, "\u{fffd}A"),
      (#""\ude00""#, "\u{fffd}"), (#""\u0000""#, "\0"),
    ])
  func escapes(text: String, value: String) throws {
    #expect(try parsed(text).string == value)
  }

  @Test("control characters are written escaped")
  func controlCharacters() throws {
    #expect(JSONValue.string("\u{01}\u{1f}\n\t").text == #""\u0001\u001f\n\t""#)
  }

  @Test(
    "what is no JSON is refused",
    arguments: [
      "", " ", "{", "[", "\"", "\"\\", "\"\\u12", "nul", "nulll", "tru e", "01", "-", "1.", ".5", "1e", "+1", "'a'",
      "[1,]", "[1 2]", "{\"a\"}", "{\"a\":}", "{\"a\":1,}", "{a:1}", "{1:2}", "\"\n\"", "\"\\x\"", "\"\\u12g4\"", "1 2",
      "{} x", "\u{feff}{}", "NaN", "//\n1",
    ])
  func refused(text: String) {
    #expect(throws: JSONError.self) { try parsed(text) }
  }

  @Test("bytes that are no UTF-8 are refused, and the place is named")
  func invalidUTF8() {
    #expect(throws: JSONError.unexpected(at: 3, line: 2, expected: "a string in UTF-8")) {
      try JSONValue.parse([0x5b, 0x0a, 0x20, 0x22, 0xff, 0x22, 0x5d])
    }
  }

  @Test("depth has a limit that hostile nesting cannot pass")
  func depth() throws {
    let deep = [UInt8](repeating: UInt8(ascii: "["), count: 1_000_000)
    #expect(throws: JSONError.tooDeep(limit: 64)) { try JSONValue.parse(deep) }
    let allowed = String(repeating: "[", count: 64) + String(repeating: "]", count: 64)
    #expect(try parsed(allowed).text == allowed)
  }

  @Test("size has a limit")
  func size() {
    #expect(throws: JSONError.tooLarge(limit: 3)) { try JSONValue.parse(Array("1234".utf8), limits: .init(bytes: 3)) }
  }

  @Test("every prefix of a text is refused without a crash")
  func prefixes() throws {
    let text = Array(#"{"a":[1.5e-3,"x\ud83d\ude00\n",{"b":null}],"c":true}"#.utf8)
    for length in 0..<text.count {
      #expect(throws: JSONError.self) { try JSONValue.parse(text[..<length]) }
    }
  }

  @Test("random bytes and random damage never crash")
  func fuzz() {
    var generator = SystemRandomNumberGenerator()
    let text = Array(#"{"a":[1.5e-3,"x\ud83d\ude00\n",{"b":null}],"c":true}"#.utf8)
    for _ in 0..<5000 {
      var damaged = text
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        damaged[Int.random(in: 0..<damaged.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      guard let value = try? JSONValue.parse(damaged) else { continue }
      #expect((try? JSONValue.parse(value.bytes)) == value)
    }
  }

  @Test("the bytes of each member can be had as they were written")
  func source() throws {
    let members = try JSONValue.sourceOfMembers(Array(#" { "a" : [ 1.0,  2 ] ,"b":{"x" : 1 }}"#.utf8))
    #expect(members.map(\.key) == ["a", "b"])
    #expect(members.map { String(decoding: $0.value, as: UTF8.self) } == ["[ 1.0,  2 ]", #"{"x" : 1 }"#])
    #expect(throws: JSONError.self) { try JSONValue.sourceOfMembers(Array("[]".utf8)) }
    #expect(throws: JSONError.self) { try JSONValue.sourceOfMembers(Array("{} x".utf8)) }
  }

  @Test("members are found, replaced in place, added at the end and removed")
  func members() throws {
    var object = try #require(try parsed(#"{"b":1,"a":2,"b":3}"#).object)
    #expect(object["b"] == 3)
    object["a"] = "x"
    object["c"] = nil
    object["d"] = true
    #expect(JSONValue.object(object).text == #"{"b":1,"a":"x","b":3,"d":true}"#)
    object["b"] = nil
    #expect(JSONValue.object(object).text == #"{"a":"x","d":true}"#)
  }

  @Test("objects are equal whatever their order, arrays are not")
  func equality() throws {
    #expect(try parsed(#"{"a":1,"b":[{"x":1,"y":2}]}"#) == parsed(#"{"b":[{"y":2,"x":1}],"a":1}"#))
    #expect(try parsed("[1,2]") != parsed("[2,1]"))
    #expect(try parsed(#"{"a":1}"#) != parsed(#"{"a":1,"b":null}"#))
  }

  @Test(
    "integers are exact or absent", arguments: [("12", 12), ("1.0", nil), ("1e2", nil), ("99999999999999999999", nil)])
  func integers(text: String, value: Int?) throws {
    #expect(try parsed(text).integer == value)
  }

  @Test("text for people is indented, and can be sorted")
  func indented() throws {
    let value = try parsed(#"{"b":[1,{}],"a":[]}"#).sorted
    #expect(
      String(decoding: value.indentedBytes, as: UTF8.self) == "{\n  \"a\": [],\n  \"b\": [\n    1,\n    {}\n  ]\n}\n")
  }
}
