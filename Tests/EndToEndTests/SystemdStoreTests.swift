import Foundation
import TestSupport
import Testing

/// A machine with a real systemd, from the rig that lies beside the checkout.
enum SystemdMachine {
  /// The rig's command, nil where it is not there.
  static let command: String? = {
    let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let path = root.deletingLastPathComponent().appending(path: "shared/systemd/in-systemd").path
    return FileManager.default.isExecutableFile(atPath: path) ? path : nil
  }()

  static var requirement: Requirement {
    Requirement(command != nil, otherwise: "needs in-systemd in ../shared/systemd")
  }
}

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
