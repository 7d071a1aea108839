import Foundation
import TestSupport
import Testing

@Suite(
  "The service manager's descriptor store", .requires(.root, .command("ip"), SystemdMachine.requirement),
  .timeLimit(.minutes(5)))
struct SystemdStoreTests {
  @Test("who connects while systemd restarts ztunnel, or it crashed, or a worker is stuck, is served by the next one")
  func keepsSockets() throws {
    let machine = try #require(SystemdMachine.command)
    let ztunnel = try #require(BuiltProduct.path("ztunnel"), "build the package first")
    let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "Systemd/store.py").path
    let binaries = URL(fileURLWithPath: ztunnel).resolvingSymlinksInPath().deletingLastPathComponent().path
    let result = try Command.run(
      [
        machine, "--bind-ro", binaries, "--bind-ro", script, "--", "python3", script, "\(binaries)/ztunnel",
      ], timeout: .seconds(260))
    #expect(result.succeeded, "\(result.output)\(result.errors)")
    #expect(result.output.contains("ok the pod is gone, and nothing is stored"))
  }
}
