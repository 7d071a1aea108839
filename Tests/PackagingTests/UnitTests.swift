import Foundation
import TestSupport
import Testing

@Suite("The units of systemd", .requires(.command("systemd-analyze")))
struct UnitTests {
  /// The units as installed from here into a folder of their own, with the programs that were built.
  private func withUnits(_ body: (String) throws -> Void) throws {
    try Installation.with { installation in try body(installation.path("/usr/lib/systemd/system")) }
  }

  @Test(
    "systemd has nothing to say against them",
    arguments: [
      "ambient-node-agent.service", "ambient-node-agent.socket", "ambient-ztunnel.service", "ambient-netns@web.service",
    ])
  func verified(_ unit: String) throws {
    try withUnits { units in
      // An instance needs its template beside it, and programs where they are now.
      for name in try FileManager.default.contentsOfDirectory(atPath: units) {
        let file = "\(units)/\(name)"
        let text = try String(contentsOfFile: file, encoding: .utf8)
        let root = String(units.dropLast("/usr/lib/systemd/system".count))
        try text.replacing("=/usr/sbin/", with: "=\(root)/usr/sbin/")
          .write(toFile: file, atomically: true, encoding: .utf8)
      }
      // It ends with 0 for a key it does not know, too. The manual pages are not where it looks for them.
      let result = try Command.run(
        ["systemd-analyze", "verify", "--man=no", "\(units)/\(unit)"], timeout: .seconds(30))
      #expect(result.succeeded)
      #expect(result.errors == "")
    }
  }

  @Test(
    "their sandboxes leave an exposure of 3.0 or less",
    arguments: ["ambient-node-agent.service", "ambient-ztunnel.service"])
  func sandboxed(_ unit: String) throws {
    try withUnits { units in
      let result = try Command.run(
        [
          "systemd-analyze", "security", "--offline=true", "--threshold=30", "--no-pager", "\(units)/\(unit)",
        ], timeout: .seconds(30))
      #expect(
        result.succeeded, "\(result.output.split(separator: "\n").filter { $0.contains("✗") || $0.contains("→") })")
    }
  }
}
