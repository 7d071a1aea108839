import Glibc
import Linux
import Testing
import Vocabulary

@testable import Redirection

@Suite("Errors")
struct RedirectionErrorTests {
  private static let ip6nat = TableIdentity(family: .v6, name: .nat)

  @Test(
    "name what the kernel lacks",
    arguments: [
      (ENOPROTOOPT, "REDIRECTION_LEGACY_TABLES_MISSING", "modprobe ip6_tables"),
      (ENOENT, "REDIRECTION_TABLE_MISSING", "ip6table_nat"),
      (EPERM, "REDIRECTION_NOT_PERMITTED", "CAP_NET_ADMIN"),
    ])
  func opening(number: CInt, code: String, remedy: String) {
    let error = TableHandle.openFailure(number, Self.ip6nat)
    #expect(error.code == code)
    #expect(error.remedy?.contains(remedy) == true)
  }

  @Test("name an extension the kernel does not have", .namespaces)
  func missingExtension() throws {
    let pod = try TestNamespace()
    let unknown = Match.opaque(OpaqueExtension(name: Array("nosuchmatch".utf8), revision: 0, data: []))
    let rule = PlannedRule(identifier: "X1", rule: Rule(matches: [unknown], target: .accept), reason: "a test")
    let plan = TablePlan(
      table: TableIdentity(family: .v4, name: .mangle), chains: [PlannedChain(name: "ISTIO_TEST", rules: [rule])])
    _ = try pod.namespace.enter {
      #expect(throws: RedirectionError.extensionMissing(name: "nosuchmatch", family: .v4)) {
        try TableSession.write(plan)
      }
    }
    #expect(try pod.saved() == "", "nothing was written")
  }

  @Test("about a namespace that is not entered keep its code", .namespaces)
  func chain() {
    let error = RedirectionError.namespace(.notPermitted(subject: "net:[1]"))
    #expect(error.code == "NETNS_NOT_PERMITTED")
    #expect(error.remedy != nil)
  }

  @Test("of proof list the first differences and count the others")
  func notProven() {
    let deviation = RedirectionDeviation(subject: "nat", difference: "gone")
    let error = RedirectionError.notProven(Array(repeating: deviation, count: 5))
    #expect(error.summary.hasSuffix("nat: gone; nat: gone; nat: gone; and 2 more"))
  }
}
