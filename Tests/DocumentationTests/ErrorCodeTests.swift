import Foundation
import TestSupport
import Testing

@Suite("docs/errors.md")
struct ErrorCodeTests {
  /// The strings in capital letters of every `code` property, and of fields that are named so.
  private func codes() throws -> Set<String> {
    var codes: Set<String> = []
    for source in try Repository.sources() {
      var isInside = false
      for line in source.split(separator: "\n", omittingEmptySubsequences: false) {
        if line.contains("var code: String {") { isInside = true }
        // What a line of the log says without an error value.
        for match in line.matches(of: /"(?:error_)?code": "([A-Z][A-Z0-9_]{3,})"/) { codes.insert(String(match.1)) }
        if isInside {
          for match in line.matches(of: /"([A-Z][A-Z0-9_]{3,})"/) { codes.insert(String(match.1)) }
          for match in line.matches(of: /"([A-Z]+_)\\\(/) { codes.insert(String(match.1)) }
          if line == "  }" || line.hasSuffix("\" }") { isInside = false }
        }
      }
    }
    return codes
  }

  private func documented() throws -> Set<String> {
    var codes: Set<String> = []
    for line in try Repository.text("docs/errors.md").split(separator: "\n") where line.hasPrefix("| `") {
      let cell = line.dropFirst(2).split(separator: "|").first ?? ""
      for match in cell.matches(of: /`([A-Z][A-Z0-9_]+)`/) { codes.insert(String(match.1)) }
    }
    return codes
  }

  @Test("every code of the sources has a row with cause and remedy")
  func complete() throws {
    let found = try codes()
    #expect(found.count > 150)
    // Told of above the tables.
    let missing = found.subtracting(try documented()).subtracting(["INNER_", "ERRNO_"])
    #expect(missing.isEmpty, "missing: \(missing.sorted())")
  }

  @Test("no code is documented that the sources do not have")
  func current() throws {
    let stale = try documented().subtracting(try codes())
    #expect(stale.isEmpty, "stale: \(stale.sorted())")
  }

  @Test("every row has three cells")
  func rows() throws {
    for line in try Repository.text("docs/errors.md").split(separator: "\n") where line.hasPrefix("|") {
      #expect(line.split(separator: "|").count == 3, "\(line)")
    }
  }
}
