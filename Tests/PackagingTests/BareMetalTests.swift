import Foundation
import Linux
import TestSupport
import Testing

@Suite(
  "The guide for bare metal, typed on machines with a real systemd",
  .requires(
    .root, .command("ip"), .command("apt-get"), .command("dpkg-shlibdeps"), .command("strip"),
    SystemdMachine.requirement),
  .serialized, .timeLimit(.minutes(10)))
struct BareMetalTests {
  private static let scripts = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "Machine")
    .path

  /// The command that runs a script in a machine with the package and the guide.
  private func machine(_ script: String, package: String, sharing: [String] = [], _ arguments: [String] = []) throws
    -> [String]
  {
    let rig = try #require(SystemdMachine.command)
    let folder = URL(fileURLWithPath: package).deletingLastPathComponent().path
    let guide = Repository.path("docs/systemd.md")
    return [rig, "--bind-ro", Self.scripts, "--bind-ro", guide, "--bind-ro", folder]
      + sharing.flatMap { ["--bind", $0] }
      + ["--", "python3", "\(Self.scripts)/\(script)", folder, guide] + arguments
  }

  @Test("ten lines mesh two services; restarts, kills, stalls, policy and the sandbox leave them served")
  func tenLines() throws {
    try DebianPackage.with { package in
      let result = try Command.run(machine("bare_metal.py", package: package), timeout: .seconds(400))
      #expect(result.succeeded, "\(result.output)\(result.errors)")
      #expect(result.output.contains("ok all of it"))
    }
  }

  @Test("two machines: a service of one is answered by a service of the other, and each knows who the other is")
  func twoMachines() throws {
    try DebianPackage.with { package in
      let shared = URL(fileURLWithPath: package).deletingLastPathComponent().appending(path: "shared").path
      try FileManager.default.createDirectory(atPath: shared, withIntermediateDirectories: true)
      let machines = try ["a", "b"].map { name in
        let mark = "machine-\(name)-\(UUID().uuidString)"
        let command = try machine("two_machines.py", package: package, sharing: [shared], [name, shared, mark])
        return (mark: mark, process: try RunningProcess(command))
      }
      // Their folders of control groups go with them.
      defer { for machine in machines { machine.process.terminate(grace: .seconds(20)) } }
      let namespaces = try machines.map { machine in
        var found: String?
        _ = try eventually(within: .seconds(60)) {
          found = try process(marked: machine.mark)
          return found != nil
        }
        return try #require(found, "\(machine.process.output)\(machine.process.errors)")
      }
      let ends = ["vm-a\(getpid())", "vm-b\(getpid())"]
      try Command.mustRun(["ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1]])
      for (end, namespace) in zip(ends, namespaces) {
        try Command.mustRun(["ip", "link", "set", end, "name", "wire", "netns", namespace])
      }
      for machine in machines {
        let status = machine.process.waitForExit(within: .seconds(180))
        #expect(status == 0, "\(machine.process.output)\(machine.process.errors)")
        #expect(machine.process.output.contains("ok all of it"))
      }
    }
  }

  /// The number of a process in a network namespace of its own that has `mark` among its arguments.
  private func process(marked mark: String) throws -> String? {
    let own = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/ns/net")
    return try FileManager.default.contentsOfDirectory(atPath: "/proc").first { entry in
      guard Int32(entry) != nil, let arguments = FileManager.default.contents(atPath: "/proc/\(entry)/cmdline"),
        String(decoding: arguments, as: UTF8.self).hasSuffix("read -r\0\(mark)\0"),
        let namespace = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/\(entry)/ns/net")
      else { return false }
      return namespace != own
    }
  }
}
