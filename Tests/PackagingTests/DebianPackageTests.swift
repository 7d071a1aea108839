import Foundation
import TestSupport
import Testing

@Suite(
  "The Debian package", .requires(.command("dpkg-deb"), .command("dpkg-shlibdeps"), .command("strip")),
  .timeLimit(.minutes(4)))
struct DebianPackageTests {
  @Test("lintian finds no error", .requires(.command("lintian")))
  func lintian() throws {
    try DebianPackage.with { package in
      // A debug build is linked to look for the toolchain's libraries; a release has them inside.
      let result = try Command.run(
        [
          "lintian", "--allow-root", "--fail-on", "error", "--suppress-tags", "custom-library-search-path", package,
        ], timeout: .seconds(120))
      #expect(result.succeeded, "\(result.output)\(result.errors)")
      #expect(!result.output.contains("E: "))
    }
  }

  @Test("it says what it is, depends on what its programs are linked with, and belongs to root")
  func contents() throws {
    try DebianPackage.with { package in
      let fields = try Command.mustRun(["dpkg-deb", "--field", package])
      #expect(fields.contains("Package: ambient-mesh\n"))
      let depends = try #require(fields.split(separator: "\n").first { $0.hasPrefix("Depends: ") })
      for library in ["libc6", "libip4tc2", "libip6tc2", "libnghttp2-14", "libssl3", "libsystemd0", "libyaml-0-2"] {
        #expect(depends.contains(library))
      }
      #expect(depends.hasSuffix(", iproute2"))
      let listing = try Command.mustRun(["dpkg-deb", "--contents", package])
      for line in listing.split(separator: "\n") { #expect(line.contains(" root/root ")) }
      for file in [
        "./usr/sbin/ztunnel", "./usr/sbin/node-agent", "./usr/sbin/ambient-netns", "./usr/share/man/man8/ztunnel.8.gz",
        "./lib/systemd/system/ambient-ztunnel.service", "./usr/share/doc/ambient-mesh/errors.md",
        "./usr/share/doc/ambient-mesh/copyright",
      ] { #expect(listing.contains("\(file)\n"), "\(file)") }
      #expect(
        listing.split(separator: "\n").contains { $0.hasPrefix("drwx------") && $0.hasSuffix("/etc/ambient/ca/") })
    }
  }
}
