import Foundation
import TestSupport
import Testing

@Suite("A running process", .timeLimit(.minutes(1)))
struct RunningProcessTests {
  @Test("shows its lines while it runs")
  func lines() throws {
    let process = try RunningProcess(["sh", "-c", "echo one; echo two >&2; echo part; sleep 100"])
    defer { process.kill() }
    #expect(process.waitForLine(containing: "two") == "two")
    #expect(process.waitForLine(containing: "part") == "part")
    #expect(process.isRunning)
    #expect(process.waitForLine(containing: "three", within: .milliseconds(50)) == nil)
  }

  @Test("is not waited for once it has ended without the line")
  func endWithoutLine() throws {
    let process = try RunningProcess(["true"])
    let start = ContinuousClock.now
    #expect(process.waitForLine(containing: "never", within: .seconds(30)) == nil)
    #expect(ContinuousClock.now - start < .seconds(10))
  }

  @Test("takes its children with it when killed")
  func group() throws {
    let process = try RunningProcess(["sh", "-c", "sleep 100 & echo child $!; wait"])
    let line = try #require(process.waitForLine(containing: "child "))
    let child = try #require(pid_t(line.dropFirst(6)))
    process.kill()
    #expect(process.waitForExit(within: .seconds(5)) == 128 + SIGKILL)
    #expect(eventually { kill(child, 0) == -1 || isZombie(child) })
  }

  @Test("ends by itself when asked to, and is killed when it will not")
  func terminate() throws {
    let polite = try RunningProcess(["sh", "-c", "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done"])
    #expect(polite.waitForLine(containing: "ready") != nil)
    #expect(polite.terminate() == 7)
    let stubborn = try RunningProcess(["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.01; done"])
    #expect(stubborn.waitForLine(containing: "ready") != nil)
    #expect(stubborn.terminate(grace: .milliseconds(50)) == 128 + SIGKILL)
  }

  @Test("gets its input and added environment")
  func inputAndEnvironment() throws {
    let process = try RunningProcess(
      ["sh", "-c", "cat; echo $ADDED"], input: "given ", environment: ["ADDED": "value"])
    #expect(process.waitForExit(within: .seconds(5)) == 0)
    #expect(process.output == "given value\n")
  }

  @Test("says which command is missing")
  func missing() {
    #expect(throws: CommandError.self) { try RunningProcess(["no-such-command-anywhere"]) }
  }

  /// What a runner of tests does that is about to be killed. It is one only for the test below.
  @Test("stand-in for a killed runner", .enabled(if: ProcessInfo.processInfo.environment["AMBIENT_STAND_IN"] != nil))
  func standIn() throws {
    let child = try RunningProcess(["sh", "-c", "sleep 100 & echo child $!; wait"])
    defer { child.kill() }
    let grandchild = try #require(child.waitForLine(containing: "child ")).dropFirst(6)
    // One that has ended before is nobody's any more.
    _ = try RunningProcess(["true"]).waitForExit(within: .seconds(10))
    FileHandle.standardError.write(Data("children \(child.pid) \(grandchild)\n".utf8))
    Thread.sleep(forTimeInterval: 50)
  }

  @Test("ends when the process that has started it is killed")
  func parentKilled() throws {
    let program = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
    let arguments = CommandLine.arguments.dropFirst().prefix { $0 != "--filter" && $0 != "--skip" }
    let parent = try RunningProcess(
      [program] + arguments + ["--testing-library", "swift-testing", "--filter", "RunningProcessTests/standIn"],
      environment: ["AMBIENT_STAND_IN": "1"])
    defer { parent.kill() }
    let line = try #require(
      parent.waitForLine(containing: "children ", within: .seconds(30)), "\(parent.output) \(parent.errors)")
    let children = line.split(separator: " ").dropFirst().compactMap { pid_t($0) }
    #expect(children.count == 2 && children.allSatisfy { kill($0, 0) == 0 && !isZombie($0) })
    parent.signal(SIGKILL)
    #expect(eventually { children.allSatisfy { kill($0, 0) == -1 || isZombie($0) } })
  }

  private func isZombie(_ pid: pid_t) -> Bool {
    (try? String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8))?.contains(") Z ") ?? true
  }
}

@Suite("What the machine offers")
struct RequirementTests {
  @Test("is found or has a reason")
  func command() {
    #expect(Requirement.command("sh").isMet)
    let missing = Requirement.command("no-such-command")
    #expect(!missing.isMet)
    #expect(missing.reason == "needs the command no-such-command")
    #expect(!Requirement.python("no_such_module").isMet)
  }

  @Test("includes the package's own executables", arguments: ["ztunnel", "node-agent"])
  func products(name: String) throws {
    let path = try #require(BuiltProduct.path(name))
    #expect(path.contains("/.build"))
    #expect(BuiltProduct.path("no-such-product") == nil)
  }
}
