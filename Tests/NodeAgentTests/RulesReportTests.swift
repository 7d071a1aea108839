import JSON
import Redirection
import Testing

@testable import NodeAgent

@Suite("Rules for programs")
struct RulesReportTests {
  @Test("are the listing's lines by family and table, and the routing")
  func listing() throws {
    let report = RulesReport(text: Redirector.listing(RedirectionSettings()))
    let value = try JSONValue.parse(report.json.indentedBytes)
    #expect(value["asWanted"]?.bool == true)
    let families = try #require(value["families"]?.array)
    #expect(families.compactMap { $0["family"]?.string } == ["IPv4", "IPv6"])
    for family in families {
      let tables = try #require(family["tables"]?.array)
      let nat = try #require(tables.first { $0["name"]?.string == "nat" })
      #expect(nat["lines"]?.array?.contains { $0.string?.hasPrefix("-A ISTIO_OUTPUT ") == true } == true)
      #expect(family["routing"]?.array?.count == 2)
    }
    // Nothing of the text is lost but the marks of its structure.
    let lines = families.flatMap { $0["tables"]?.array ?? [] }.flatMap { $0["lines"]?.array ?? [] }.compactMap(\.string)
    let rules = report.text.split(separator: "\n").map(String.init).filter { $0.hasPrefix("-A") || $0.hasPrefix(":") }
    #expect(lines == rules)
  }

  @Test("of a comparison are the differences")
  func comparison() throws {
    let report = RulesReport(text: "nat OUTPUT: gone\nroute v4: gone\n", isAsWanted: false, isComparison: true)
    let value = try JSONValue.parse(report.json.indentedBytes)
    #expect(value["asWanted"]?.bool == false)
    #expect(value["deviations"]?.array?.compactMap(\.string) == ["nat OUTPUT: gone", "route v4: gone"])
    let good = RulesReport(text: "as wanted\n", isComparison: true)
    #expect(good.json["deviations"]?.array?.isEmpty == true)
  }
}
