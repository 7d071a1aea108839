import Foundation
import TestSupport
import Testing

/// What `scripts/install` made of the programs that were built, below a folder that goes with it.
struct Installation {
  let root: String
  let prefix: String

  /// Installs, runs `body`, and removes everything.
  static func with(prefix: String = "/usr", _ body: (Installation) throws -> Void) throws {
    let root = FileManager.default.temporaryDirectory.appending(path: "ambient-install-\(UUID().uuidString)").path
    defer { try? FileManager.default.removeItem(atPath: root) }
    let installation = Installation(root: root, prefix: prefix)
    try installation.install()
    try body(installation)
  }

  func path(_ path: String) -> String { root + path }

  func install() throws { try run([try Self.builtFolder()]) }

  func uninstall() throws { try run(["--uninstall"]) }

  private func run(_ arguments: [String]) throws {
    try Command.mustRun(
      ["env", "DESTDIR=\(root)", "PREFIX=\(prefix)", Repository.path("scripts/install")] + arguments,
      timeout: .seconds(60))
  }

  /// Where the daemons are that were built with these tests.
  static func builtFolder() throws -> String {
    let ztunnel = try #require(BuiltProduct.path("ztunnel"), "build the package first")
    return URL(fileURLWithPath: ztunnel).resolvingSymlinksInPath().deletingLastPathComponent().path
  }

  /// Files below the root with their permissions, as octal digits.
  func files() throws -> [String: String] {
    var files: [String: String] = [:]
    let listing = try Command.mustRun(["find", root, "-not", "-type", "d", "-printf", "/%P %m\\n"])
    for line in listing.split(separator: "\n") {
      let parts = line.split(separator: " ")
      if parts.count == 2 { files[String(parts[0])] = String(parts[1]) }
    }
    return files
  }

  /// Folders below the root, relative to it.
  func folders() throws -> Set<String> {
    let listing = try Command.mustRun(["find", root, "-mindepth", "1", "-type", "d", "-printf", "/%P\\n"])
    return Set(listing.split(separator: "\n").map(String.init))
  }
}
