import Foundation
import JSON
import Linux
import TestSupport
import Testing

@testable import CNI

/// The program itself, as a runtime runs it.
@Suite(
  "The plugin's program",
  .requires(.init(BuiltProduct.path("ambient-cni") != nil, otherwise: "ambient-cni is not built")))
struct PluginProgramTests {
  private func run(
    _ variables: [String: String], _ input: String, within limit: Duration = .seconds(30)
  ) throws -> (status: CInt, output: String, errors: String) {
    let path = try #require(BuiltProduct.path("ambient-cni"))
    let process = try RunningProcess([path], input: input, environment: variables)
    defer { process.kill() }
    let status = try #require(process.waitForExit(within: limit))
    return (status, process.output, process.errors)
  }

  @Test("is one file that runs where there is no other", .requires(.root))
  func emptyRoot() throws {
    let path = try #require(BuiltProduct.path("ambient-cni"))
    let root = NSTemporaryDirectory() + "ambient-cni-root-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: root) }
    // By another process: a file that this one has open for writing could not be run.
    try Command.mustRun(["cp", path, root + "/ambient-cni"])
    let result = try Command.run(["env", "CNI_COMMAND=VERSION", "chroot", root, "/ambient-cni"])
    #expect(result.status == 0)
    #expect(result.output.hasPrefix(#"{"cniVersion":"1.1.0""#))
  }

  @Test("hands on the result of the plugins before it when the agent says yes")
  func admitted() throws {
    let agent = try FakeAgent { _ in FakeAgent.http(200, #"{"captured":true}"#) }
    let result = try run(Inputs.variables("ADD"), Inputs.configuration(runDirectory: agent.directory))
    #expect(result.status == 0)
    #expect(result.output == Inputs.previous)
    let request = try #require(agent.requests.first)
    #expect(request.hasPrefix("POST /admit HTTP/1.1\r\n"))
    #expect(request.contains(#""PodUID":"u-1""#))
  }

  @Test("fails with an error that names the pod when the agent says no")
  func refused() throws {
    let agent = try FakeAgent { _ in FakeAgent.http(500, #"{"code":"ZDS_X","message":"no ztunnel"}"#) }
    let result = try run(Inputs.variables("ADD"), Inputs.configuration(runDirectory: agent.directory))
    #expect(result.status == 1)
    let error = try JSONValue.parse(Array(result.output.utf8))
    #expect(error["code"] == 100)
    #expect(error["msg"]?.string?.contains("shop/web-1") == true)
    #expect(error["msg"]?.string?.contains("no ztunnel") == true)
  }

  @Test("an agent that comes late is told the time that is left, not the one there was")
  func timeLeft() throws {
    let agent = try FakeAgent { _ in FakeAgent.http(200, #"{"captured":true}"#) }
    // The plugin finds nobody at first.
    let place = agent.directory + "-late"
    let path = try #require(BuiltProduct.path("ambient-cni"))
    let process = try RunningProcess(
      [path], input: Inputs.configuration(runDirectory: place, timeout: 20), environment: Inputs.variables("ADD"))
    defer {
      process.kill()
      unlink(place)
    }
    usleep(1_200_000)
    symlink(agent.directory, place)
    #expect(process.waitForExit(within: .seconds(30)) == 0)
    let body = try #require(agent.requests.first?.split(separator: "\r\n\r\n").last)
    let left = try #require(try JSONValue.parse(Array(body.utf8))["TimeoutMilliseconds"]?.integer)
    #expect(left < 19_000 && left > 5_000)
  }

  @Test("fails closed when no agent comes in time, and says what to look at")
  func agentAway() throws {
    let result = try run(Inputs.variables("ADD"), Inputs.configuration(runDirectory: "/nonexistent", timeout: 1))
    #expect(result.status == 1)
    let error = try JSONValue.parse(Array(result.output.utf8))
    #expect(error["code"] == 11)
    #expect(error["details"]?.string?.contains("node agent") == true)
    let excluded = Inputs.arguments.replacing("shop", with: "kube-system")
    let passed = try run(
      Inputs.variables("ADD", arguments: excluded), Inputs.configuration(runDirectory: "/nonexistent", timeout: 1))
    #expect(passed.status == 0)
    #expect(passed.output == Inputs.previous)
  }

  @Test("gives up on an agent that does not answer", arguments: [nil, "garbage", "HTTP/1.1 200 OK\r\ncontent-le"])
  func silentAgent(reply: String?) throws {
    let agent = try FakeAgent { _ in reply }
    let result = try run(Inputs.variables("ADD"), Inputs.configuration(runDirectory: agent.directory, timeout: 1))
    #expect(result.status == 1)
    #expect(try JSONValue.parse(Array(result.output.utf8))["code"] == 11)
  }

  @Test("deletes without an agent, without a namespace and without a usable configuration")
  func delete() throws {
    for input in [Inputs.configuration(runDirectory: "/nonexistent"), "{", ""] {
      let result = try run(Inputs.variables("DEL", namespace: nil), input)
      #expect(result.status == 0)
      #expect(result.output == "")
    }
  }

  @Test("refuses the namespace it runs in")
  func ownNamespace() throws {
    let result = try run(Inputs.variables("ADD", namespace: "/proc/self/ns/net"), Inputs.configuration())
    #expect(try JSONValue.parse(Array(result.output.utf8))["code"] == 8)
  }

  @Test("reads no more than it must")
  func endlessInput() throws {
    let result = try run(Inputs.variables("ADD"), String(repeating: " ", count: 2 << 20))
    #expect(result.status == 1)
    #expect(try JSONValue.parse(Array(result.output.utf8))["code"] == 5)
  }

  @Test("tells a person who runs it by hand what it is")
  func byHand() throws {
    let result = try run(["CNI_COMMAND": ""], "")
    #expect(result.status == 1)
    #expect(result.errors.contains("run by container runtimes"))
  }

  @Test("fifty pods at once are each asked about and started")
  func manyAtOnce() async throws {
    let agent = try FakeAgent { _ in
      usleep(300_000)
      return FakeAgent.http(200, #"{"captured":false,"reason":"no label"}"#)
    }
    let configuration = Inputs.configuration(runDirectory: agent.directory, timeout: 60)
    let path = try #require(BuiltProduct.path("ambient-cni"))
    let processes = try (0..<50).map { number in
      try RunningProcess(
        [path], input: configuration,
        environment: Inputs.variables("ADD", arguments: "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-\(number)"))
    }
    for process in processes { #expect(process.waitForExit(within: .seconds(60)) == 0) }
    #expect(Set(agent.requests).count == 50)
  }
}
