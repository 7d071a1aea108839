import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

/// The commands that people type, against running daemons.
@Suite(
  "Explain and status", .requires(.root, .command("ip"), .command("iptables-legacy")), .timeLimit(.minutes(3)))
struct ExplainTests {
  private func ztunnel(_ node: MeshFixture.MeshNode, _ arguments: [String]) throws -> CommandResult {
    let binary = try #require(BuiltProduct.path("ztunnel"), "build the package first")
    let result = try Command.run([binary] + arguments, in: node.node.place.namespace, timeout: .seconds(30))
    if ProcessInfo.processInfo.environment["AMBIENT_TEST_LOGS"] != nil {
      print("$ ztunnel", arguments, result.status, "\n\(result.output)\(result.errors)")
    }
    return result
  }

  @Test("what is explained is what happens: allowed, denied, in plaintext, not known")
  func outcomes() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let plain = try await mesh.pod("plain", on: mesh.right, inMesh: false)
      try mesh.service("echo", vip: "10.96.0.5", target: 8080, [server])
      try mesh.add(MeshPolicy(name: "closed", action: .deny, matches: ["destinationPorts: [9090]"]))
      let servers = try [
        TCPServer(in: server.pod, port: 8080, .echo), TCPServer(in: server.pod, port: 9090, .echo),
        TCPServer(in: plain.pod, port: 8080, .echo),
      ]
      defer { servers.forEach { $0.stop() } }
      let vip = SocketAddress(try #require(IPAddress("10.96.0.5")), 80)
      let rows: [(String, SocketAddress, CInt, String)] = [
        ("echo:80", vip, 0, "ALLOWED, ENCRYPTED"), ("demo/server:8080", server.address(port: 8080), 0, "no rule holds"),
        ("demo/server:9090", server.address(port: 9090), 1, "explicitly denied by: demo/closed"),
        ("demo/plain:8080", plain.address(port: 8080), 2, "does not speak HBONE"),
      ]
      for (target, address, status, text) in rows {
        let answer = try ztunnel(mesh.left, ["explain", "--from", "demo/client", "--to", target])
        #expect(answer.status == status, "\(target): \(answer.output)\(answer.errors)")
        #expect(answer.output.contains(text), "\(target): \(answer.output)")
        // And the data path does so.
        let connection = try TCPClient(in: client.pod).connect(to: address)
        if status == 1 {
          #expect(try connection.end() == .reset)
        } else {
          #expect(try connection.exchange("hello") == "hello")
        }
      }
      #expect(try ztunnel(mesh.left, ["explain", "--from", "demo/nobody", "--to", "echo:80"]).status == 3)
      #expect(try ztunnel(mesh.left, ["explain", "--from", "demo", "--to", "echo:80"]).status == 64)
      let json = try ztunnel(mesh.left, ["explain", "--from", "demo/client", "--to", "echo:80", "--json"]).output
      let object = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
      #expect(object?["outcome"] as? String == "allowed, encrypted")
    }
  }

  @Test("a policy is tried on the running mesh without changing it, and on a saved dump")
  func change() async throws {
    try await MeshFixture.with { mesh in
      _ = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      try mesh.service("echo", vip: "10.96.0.5", target: 8080, [server])
      let policy = mesh.directory + "/policy.yaml"
      try """
      apiVersion: security.istio.io/v1
      kind: AuthorizationPolicy
      metadata: {name: only-admin, namespace: demo}
      spec: {rules: [{from: [{source: {principals: ["cluster.local/ns/demo/sa/admin"]}}]}]}
      """.write(toFile: policy, atomically: true, encoding: .utf8)
      let question = ["explain", "--from", "demo/client", "--to", "echo:80"]
      let tried = try ztunnel(mesh.left, question + ["--policy", policy])
      #expect(tried.status == 1)
      #expect(tried.output.hasPrefix("allowed, encrypted  →  denied\n"))
      #expect(try ztunnel(mesh.left, question).status == 0)
      let dump = mesh.directory + "/dump.json"
      let curl = try Command.mustRun(
        ["curl", "-s", "http://127.0.0.1:15000/config_dump"], in: mesh.left.node.place.namespace)
      try curl.write(toFile: dump, atomically: true, encoding: .utf8)
      #expect(try ztunnel(mesh.right, question + ["--dump", dump]).status == 0)
      #expect(try ztunnel(mesh.right, question + ["--dump", dump, "--policy", policy]).status == 1)
    }
  }

  @Test("status is one screen, and its exit status is a check")
  func status() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      #expect(try connection.exchange("hello") == "hello")
      let answer = try ztunnel(mesh.left, ["status"])
      #expect(answer.status == 0, "\(answer.output)\(answer.errors)")
      #expect(answer.output.contains("demo/client"))
      #expect(answer.output.contains("0 in, 1 out; 0 in plaintext"))
      let json = try ztunnel(mesh.left, ["status", "--json"]).output
      let object = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
      #expect((object?["pods"] as? [Any])?.count == 1)
      #expect(try ztunnel(mesh.left, ["status", "--admin", "127.0.0.1:1"]).status == 2)
    }
  }

  @Test("dry-run policies are in the log and in the metrics, and decide nothing")
  func dryRun() async throws {
    try await MeshFixture.with(environment: ["AUTHZ_POLICY_INFO_LOGGING": "true"]) { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      try mesh.add(MeshPolicy(name: "tried", action: .deny, isDryRun: true, matches: ["destinationPorts: [8080]"]))
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      #expect(try connection.exchange("hello") == "hello")
      #expect(try mesh.right.ztunnel.waitForLine("dry-run: deny policy match", "demo/tried") != nil)
      let metrics = try Command.mustRun(
        ["curl", "-s", "http://127.0.0.1:15020/metrics"], in: mesh.right.node.place.namespace)
      let line = metrics.split(separator: "\n").first {
        $0.hasPrefix("ztunnel_policy_dry_run_total{") && $0.contains("demo/tried")
      }
      #expect(line?.hasSuffix(" 1") == true, "\(line ?? "none")")
      let explained = try ztunnel(mesh.right, ["explain", "--from", "demo/client", "--to", "demo/server:8080"])
      #expect(explained.status == 0)
      #expect(explained.output.contains("demo/tried DENY"))
    }
  }

  @Test("node-agent explains a pod that it has proven, and ztunnel shows the proof")
  func enrolment() async throws {
    try await DaemonFixture.with { daemons in
      let mesh = daemons.mesh
      _ = try await daemons.pod("client", on: mesh.left)
      let agent = try #require(BuiltProduct.path("node-agent"), "build the package first")
      let explain = { (pod: String) in
        try Command.run([agent, "explain", pod, "--socket", mesh.statusSocket(of: mesh.left)], timeout: .seconds(30))
      }
      #expect(try eventually(within: .seconds(20)) { try explain("demo/client").status == 0 })
      let answer = try explain("client")
      #expect(answer.output.hasPrefix("demo/client: captured: its rules were read back equal"))
      #expect(answer.output.contains("certificate     held"))
      #expect(try explain("demo/nobody").status == 3)
      #expect(try Command.run([agent, "explain", "x", "--socket", "/nonexistent.sock"]).status == 3)
      #expect(
        try eventually(within: .seconds(20)) {
          try ztunnel(mesh.left, ["status", "--json"]).output.contains("\"state\": \"PROVEN\"")
        })
    }
  }
}
