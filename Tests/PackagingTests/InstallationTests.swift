import Foundation
import TestSupport
import Testing

@Suite("make install, make uninstall")
struct InstallationTests {
  @Test("every file is at its documented place, with its permissions", arguments: ["/usr/local", "/usr"])
  func places(_ prefix: String) throws {
    try Installation.with(prefix: prefix) { installation in
      var expected: [String: String] = [:]
      for program in ["node-agent", "ztunnel", "ambient-netns"] {
        expected["\(prefix)/sbin/\(program)"] = "755"
        expected["\(prefix)/share/man/man8/\(program).8.gz"] = "644"
      }
      for unit in [
        "ambient-node-agent.service", "ambient-node-agent.socket", "ambient-ztunnel.service", "ambient-netns@.service",
      ] { expected["\(prefix)/lib/systemd/system/\(unit)"] = "644" }
      for document in [
        "README.md", "LICENSE", "systemd.md", "settings.md", "errors.md", "explain.md", "explain-pod.md",
      ] {
        expected["\(prefix)/share/doc/ambient-mesh/\(document)"] = "644"
      }
      let files = try installation.files()
      #expect(files == expected)
    }
  }

  @Test("units name the programs where they were installed")
  func units() throws {
    try Installation.with(prefix: "/opt/mesh") { installation in
      for (unit, program) in [("ambient-node-agent", "node-agent run"), ("ambient-ztunnel", "ztunnel proxy")] {
        let file = installation.path("/opt/mesh/lib/systemd/system/\(unit).service")
        let text = try String(contentsOfFile: file, encoding: .utf8)
        #expect(text.contains("\nExecStart=/opt/mesh/sbin/\(program)\n"))
        #expect(!text.contains("@sbindir@"))
      }
    }
  }

  @Test("the authority's folder is for root only, whatever the umask")
  func authority() throws {
    try Installation.with { installation in
      let attributes = try FileManager.default.attributesOfItem(atPath: installation.path("/etc/ambient/ca"))
      #expect(attributes[.posixPermissions] as? Int == 0o700)
    }
  }

  @Test("uninstalling leaves nothing, or exactly what the administrator wrote")
  func uninstalled() throws {
    try Installation.with(prefix: "/usr/local") { installation in
      try installation.uninstall()
      let rest = try installation.files()
      #expect(rest.isEmpty)
      let folders = try installation.folders()
      #expect(folders.filter { $0.contains("ambient") }.isEmpty)

      try installation.install()
      let mesh = installation.path("/etc/ambient/mesh/mesh.yaml")
      try "workloads: []\n".write(toFile: mesh, atomically: true, encoding: .utf8)
      try installation.uninstall()
      let left = try installation.files()
      #expect(Array(left.keys) == ["/etc/ambient/mesh/mesh.yaml"])
      // Twice does no harm.
      try installation.uninstall()
    }
  }
}
