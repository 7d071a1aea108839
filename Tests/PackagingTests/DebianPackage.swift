import Foundation
import TestSupport
import Testing

/// The package that `scripts/deb` makes of the programs that were built with these tests: a debug build, so it needs
/// the toolchain's runtime on this machine. `make deb` makes that of a release.
enum DebianPackage {
  /// Makes it in a folder that goes after `body`, which gets its path.
  static func with(_ body: (String) throws -> Void) throws {
    let folder = FileManager.default.temporaryDirectory.appending(path: "ambient-deb-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: folder) }
    let output = try Command.mustRun(
      [
        "env", "DPKG_DEB_OPTIONS=-Zgzip -z1", Repository.path("scripts/deb"), try Installation.builtFolder(), folder,
      ], timeout: .seconds(120))
    let path = try #require(output.split(separator: "\n").last.map(String.init))
    try body(path)
  }
}
