import Testing

@testable import Vocabulary

@Suite("Printable text")
struct PrintableTextTests {
  @Test(
    "control characters and marks of direction are replaced, everything else stays",
    arguments: [
      ("plain é 日本 👩‍💻\n", "plain é 日本 👩‍💻\n"), ("\u{1b}[2J", "\u{fffd}[2J"),
      ("a\rb\u{7}\u{7f}\u{9b}", "a\u{fffd}b\u{fffd}\u{fffd}\u{fffd}"),
      ("x\u{202e}y", "x\u{fffd}y"), ("", ""),
    ])
  func replacement(_ text: String, _ printable: String) {
    #expect(text.printable == printable)
  }
}
