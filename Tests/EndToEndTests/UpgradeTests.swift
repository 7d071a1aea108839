import Foundation
import Linux
import Synchronization
import Testing
import Vocabulary

@testable import TestSupport

@Suite(
  "A ztunnel that is upgraded in place", .requires(.root, .command("ip"), .command("iptables-legacy")),
  .timeLimit(.minutes(2)))
struct UpgradeTests {
  /// Runs a proxy from a file of its own, so that the file can be replaced.
  private static let launcher = ["/bin/sh", "-c", "cp \"$0\" \"$0.$$\" && exec \"$0.$$\""]

  /// A mesh whose left proxy can be upgraded.
  private final class Scene: Sendable {
    let mesh: MeshFixture
    let client: MeshPod
    let server: MeshPod
    private let successors = Mutex<[pid_t]>([])

    private init(_ mesh: MeshFixture) async throws {
      self.mesh = mesh
      client = try await mesh.pod("client", on: mesh.left)
      server = try await mesh.pod("server", on: mesh.right)
    }

    static func play(
      environment: [String: String] = [:], launcher: [String] = [], _ body: (Scene) async throws -> Void
    ) async throws {
      try await MeshFixture.with(environment: environment, launcher: launcher) { mesh in
        let scene = try await Scene(mesh)
        let echo = try TCPServer(in: scene.server.pod, port: 8080, .echo)
        defer {
          echo.stop()
          scene.end()
        }
        try await body(scene)
      }
    }

    /// Types `ztunnel upgrade`.
    func upgrade() throws -> CommandResult {
      let program = try #require(BuiltProduct.path("ztunnel"), "build the package first")
      return try Command.run(
        [program, "upgrade", "--json"], in: mesh.left.node.place.namespace, timeout: .seconds(60))
    }

    /// Upgrades the left proxy; the number of the process that has taken over.
    func upgraded() throws -> pid_t {
      let result = try upgrade()
      try #require(result.succeeded, "\(result.output)\(result.errors)")
      let object = try JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any]
      let process = pid_t(try #require(object?["successor"] as? Int))
      Guardian.shared?.watch(group: process)
      successors.withLock { $0.append(process) }
      return process
    }

    func connect() throws -> TCPConnection {
      try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
    }

    /// Ends the processes that this one did not start itself.
    private func end() {
      for process in successors.withLock({ $0 }) {
        kill(process, SIGTERM)
        if !eventually(within: .seconds(10), { kill(process, 0) == -1 }) { kill(process, SIGKILL) }
        Guardian.shared?.forget(group: process)
      }
    }
  }

  @Test("leaves new connections and plain ones to the next, and sees tunnelled ones to their end")
  func whole() async throws {
    let directory = "/tmp/ambient-notify-\(UUID().uuidString.prefix(8))"
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory) }
    let manager = try NotifySocket(path: directory + "/notify")
    try await Scene.play { scene in
      // The fixture starts both proxies alike; only this one has a service manager.
      let unmanaged = try scene.mesh.left.ztunnel
      let first = try scene.mesh.startZtunnel(
        on: scene.mesh.left, ["NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "6000000"])
      #expect(unmanaged.waitForLine("another ztunnel has taken over", within: .seconds(20)) != nil)
      unmanaged.signal(SIGTERM)
      #expect(unmanaged.waitForExit(within: .seconds(10)) == 0)

      let outside = try await scene.mesh.pod("outside", on: scene.mesh.right, inMesh: false)
      let echo = try TCPServer(in: outside.pod, port: 8080, .echo)
      defer { echo.stop() }
      let tunnelled = try scene.connect()
      let plain = try TCPClient(in: scene.client.pod).connect(to: outside.address(port: 8080))
      for connection in [tunnelled, plain] { #expect(try connection.exchange("before") == "before") }

      let next = try scene.upgraded()
      #expect(next != first.pid && kill(next, 0) == 0)
      #expect(eventually { manager.messages.contains("READY=1\nMAINPID=\(next)") })
      #expect(first.waitForLine("replaced: open connections run on here", "connections=\"1\"") != nil)
      for connection in [tunnelled, plain] { #expect(try connection.exchange("after") == "after") }
      for _ in 0..<5 { #expect(try scene.connect().exchange("new") == "new") }
      #expect(first.isRunning)
      #expect(first.hasLine("connections are left to the next ztunnel"))
      let said = manager.messages.count { $0 == "STOPPING=1" }
      #expect(
        eventually { manager.lastSign.map { $0 > .now - .seconds(3) } ?? false }, "the next one gives signs of life")

      try tunnelled.finishSending()
      #expect(try tunnelled.receiveToEnd().isEmpty)
      #expect(eventually(within: .seconds(10)) { !first.isRunning }, "nothing is left to do")
      #expect(manager.messages.count { $0 == "STOPPING=1" } == said, "the service goes on")
      #expect(try plain.exchange("still") == "still")
      #expect(try scene.connect().exchange("new") == "new")
    }
  }

  @Test("goes on when the next one cannot start, and says why")
  func failures() async throws {
    try await Scene.play(launcher: Self.launcher) { scene in
      let process = try scene.mesh.left.ztunnel
      let link = "/proc/\(process.pid)/exe"
      let program = try FileManager.default.destinationOfSymbolicLink(atPath: link)
      let open = try scene.connect()
      #expect(try open.exchange("before") == "before")
      func refused(_ code: String) throws {
        let result = try scene.upgrade()
        #expect(result.status == 1)
        #expect(result.errors.contains(code), "\(result.errors)")
        #expect(try open.exchange("after") == "after")
        #expect(try scene.connect().exchange("new") == "new")
      }
      try FileManager.default.removeItem(atPath: program)
      try refused("UPGRADE_CANNOT_START")
      try "#!/bin/sh\nexit 3\n".write(toFile: program, atomically: true, encoding: .utf8)
      try Command.mustRun(["chmod", "755", program])
      try refused("UPGRADE_SUCCESSOR_ENDED")
      #expect(process.waitForLine("not replaced", "UPGRADE_SUCCESSOR_ENDED") != nil)
      // The program is back: it works.
      try FileManager.default.removeItem(atPath: program)
      try Command.mustRun(["cp", try #require(BuiltProduct.path("ztunnel")), program])
      _ = try scene.upgraded()
      #expect(try open.exchange("still") == "still")
      #expect(try scene.connect().exchange("new") == "new")
    }
  }

  @Test("does not wait for connections for ever")
  func deadline() async throws {
    try await Scene.play(
      environment: ["AMBIENT_UPGRADE_DEADLINE": "1s", "CONNECTION_TERMINATION_DEADLINE": "1s"]
    ) { scene in
      let first = try scene.mesh.left.ztunnel
      let open = try scene.connect()
      #expect(try open.exchange("before") == "before")
      _ = try scene.upgraded()
      #expect(try open.end() == .reset)
      #expect(eventually(within: .seconds(10)) { !first.isRunning })
      #expect(first.hasLine("AMBIENT_UPGRADE_DEADLINE has passed"))
      #expect(try scene.connect().exchange("new") == "new")
    }
  }

  @Test("serves again when the one that has replaced it dies, as long as it has connections")
  func successorDies() async throws {
    try await Scene.play { scene in
      let first = try scene.mesh.left.ztunnel
      let open = try scene.connect()
      #expect(try open.exchange("before") == "before")
      let next = try scene.upgraded()
      #expect(try scene.connect().exchange("new") == "new")
      kill(next, SIGKILL)
      #expect(first.waitForLine("the other ztunnel is gone", within: .seconds(20)) != nil)
      #expect(first.waitForLine("this one serves, without its admin interface") != nil)
      #expect(try open.exchange("after") == "after")
      #expect(try scene.connect().exchange("new") == "new")
    }
  }

  @Test("ends with its last connection also when the agent was restarted meanwhile, whoever is there first")
  func agentRestarts() async throws {
    try await Scene.play { scene in
      let first = try scene.mesh.left.ztunnel
      let open = try scene.connect()
      #expect(try open.exchange("before") == "before")
      _ = try scene.upgraded()
      for _ in 0..<4 {
        try await scene.mesh.left.agent.stop()
        try await scene.mesh.left.agent.restart(announcing: [scene.client])
        let isBack = try eventually(within: .seconds(20)) { try scene.connect().exchange("new") == "new" }
        #expect(isBack)
        #expect(try open.exchange("after") == "after")
      }
      #expect(first.isRunning)
      try open.finishSending()
      #expect(try open.receiveToEnd().isEmpty)
      #expect(eventually(within: .seconds(20)) { !first.isRunning })
      #expect(try scene.connect().exchange("new") == "new")
    }
  }

  @Test("is asked by POST, and not while it ends")
  func requests() async throws {
    try await Scene.play(environment: ["CONNECTION_TERMINATION_DEADLINE": "20s"]) { scene in
      let open = try scene.connect()
      #expect(try open.exchange("before") == "before")
      let place = scene.mesh.left.node.place.namespace
      let get = try Command.run(["curl", "-s", "-w", "%{http_code}", "http://127.0.0.1:15000/upgrade"], in: place)
      #expect(get.output.hasSuffix("405"))
      let process = try scene.mesh.left.ztunnel
      process.signal(SIGTERM)
      #expect(process.waitForLine("shutting down") != nil)
      let refused = try scene.upgrade()
      #expect(refused.status == 1)
      #expect(refused.errors.contains("UPGRADE_NOT_SERVING"))
      process.signal(SIGTERM)
    }
  }
}
