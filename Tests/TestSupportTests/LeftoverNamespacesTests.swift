import Foundation
import Testing

@testable import TestSupport

@Suite("Leftover namespaces")
struct LeftoverNamespacesTests {
  @Test(
    "belong to the process in their name, and others' names to nobody",
    arguments: [
      ("ambtest-123-x9-client", 123), ("ambtest-1-x-a-b", 1), ("ambtest--1-x", nil), ("ambtest-0-x", nil),
      ("ambtest-x-1", nil), ("cni-123-1", nil), ("", nil), ("ambtest-99999999999-x", nil),
    ] as [(String, pid_t?)])
  func owner(name: String, pid: pid_t?) {
    #expect(LeftoverNamespaces.owner(of: name) == pid)
  }

  @Test("are removed with what runs in them", .requires(.root, .command("ip")), .timeLimit(.minutes(1)))
  func remove() throws {
    let name = LeftoverNamespaces.newPrefix() + "left"
    try Command.mustRun(["ip", "netns", "add", name])
    let process = try RunningProcess(["ip", "netns", "exec", name, "sleep", "100"])
    #expect(try eventually { try !Command.mustRun(["ip", "netns", "pids", name]).isEmpty })
    LeftoverNamespaces.remove([name, "not-of-this-kind"])
    #expect(process.waitForExit(within: .seconds(5)) == 128 + SIGKILL)
    #expect(!FileManager.default.fileExists(atPath: "/run/netns/\(name)"))
  }
}
