import Foundation
import TestSupport
import Testing

@Suite("The manual pages")
struct ManualPageTests {
  static let pages = ["ambient-netns", "node-agent", "ztunnel"]

  @Test("they are formatted without a warning", .requires(.command("man"), .command("groff")), arguments: pages)
  func warnings(_ page: String) throws {
    let file = Repository.path("docs/man/\(page).8")
    for command in [
      [
        "env", "LC_ALL=C.UTF-8", "MANROFFSEQ=", "MANWIDTH=80", "man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z",
        file,
      ],
      ["groff", "-man", "-ww", "-Tutf8", "-z", file],
    ] {
      let result = try Command.run(command, timeout: .seconds(30))
      #expect(result.succeeded)
      #expect(result.errors == "")
    }
  }

  @Test(
    "they name every subcommand and every option that the programs' own help lists",
    arguments: ["node-agent", "ztunnel"])
  func complete(_ program: String) throws {
    let page = try Repository.text("docs/man/\(program).8")
    let words = Set(
      page.replacing("\\-", with: "-").replacing("\\fR", with: "").split { !($0.isLetter || $0.isNumber || $0 == "-") }
        .map(String.init))
    let path = try #require(BuiltProduct.path(program), "build the package first")
    let overview = try Command.mustRun([path, "--help"])
    let subcommands = Self.subcommands(overview)
    #expect(subcommands.count > 3)
    #expect(subcommands.filter { !words.contains($0) }.isEmpty)
    for subcommand in subcommands {
      let help = try Command.mustRun([path, subcommand, "--help"])
      #expect(help.hasPrefix("OVERVIEW: "))
      let options = Self.options(help)
      #expect(options.contains("--help"))
      let missing = options.filter { !words.contains($0) }
      #expect(missing.isEmpty, "\(program) \(subcommand)")
    }
  }

  @Test("the programs' own help fits a screen of 80 columns, as it was written", arguments: ["node-agent", "ztunnel"])
  func width(_ program: String) throws {
    let path = try #require(BuiltProduct.path(program), "build the package first")
    let overview = try Command.mustRun([path, "--help"])
    for subcommand in [nil] + Self.subcommands(overview).map(Optional.some) {
      let help = try Command.mustRun([path] + (subcommand.map { [$0] } ?? []) + ["--help"])
      // A line of a table that was too long goes on at the margin.
      var isInTable = false
      for line in help.split(separator: "\n", omittingEmptySubsequences: false) where !line.hasPrefix("USAGE: ") {
        #expect(line.count <= 80)
        #expect(!(isInTable && !line.isEmpty && !line.hasPrefix(" ")), "\(program) \(subcommand ?? ""): \(line)")
        isInTable = line.hasPrefix("  ")
      }
    }
  }

  /// Names under SUBCOMMANDS.
  private static func subcommands(_ help: String) -> [String] {
    guard let list = help.split(separator: "SUBCOMMANDS:\n").dropFirst().first else { return [] }
    return list.split(separator: "\n").compactMap { line in
      guard line.hasPrefix("  "), !line.hasPrefix("   "), !line.contains("See '") else { return nil }
      return line.dropFirst(2).split(separator: " ").first.map(String.init)
    }
  }

  /// Long names under OPTIONS, as they stand at the left.
  private static func options(_ help: String) -> Set<String> {
    guard let list = help.split(separator: "OPTIONS:\n").dropFirst().first else { return [] }
    var options: Set<String> = []
    for line in list.split(separator: "\n") where line.hasPrefix("  -") {
      for match in line.matches(of: /--[a-z0-9-]+/) { options.insert(String(match.0)) }
    }
    return options
  }
}
