import Foundation
import TestSupport
import Testing
import Vocabulary

@Suite(
  "Admin, statistics and readiness",
  .requires(.root, .command("ip"), .command("iptables-legacy"), .command("curl")), .timeLimit(.minutes(2)))
struct AdminTests {
  /// What curl, on the node itself, gets; asked again while nobody listens yet.
  private func get(_ node: MeshFixture.MeshNode, _ path: String, port: Int = 15000, _ arguments: [String] = [])
    throws -> (status: Int, body: String)
  {
    var answer = (status: 0, body: "")
    _ = try eventually(within: .seconds(15)) {
      answer = try ask(node, path, port, arguments)
      return answer.status != 0
    }
    return answer
  }

  private func ask(_ node: MeshFixture.MeshNode, _ path: String, _ port: Int, _ arguments: [String])
    throws -> (status: Int, body: String)
  {
    let curl = try #require(Command.path(of: "curl"))
    let process = try node.node.spawn(
      [curl, "-s", "-m", "10", "-w", "\n%{http_code}"] + arguments + ["http://127.0.0.1:\(port)\(path)"])
    _ = process.waitForExit(within: .seconds(20))
    var lines = process.output.split(separator: "\n", omittingEmptySubsequences: false)
    let status = lines.popLast().flatMap { Int($0) } ?? 0
    return (status, lines.joined(separator: "\n"))
  }

  private func dump(_ node: MeshFixture.MeshNode) throws -> [String: Any] {
    let body = try get(node, "/config_dump").body
    return try #require(try JSONSerialization.jsonObject(with: Data(body.utf8)) as? [String: Any])
  }

  /// The value of the one series that has all of `labels`.
  private func value(_ text: String, _ name: String, _ labels: [String]) -> Double? {
    let lines = text.split(separator: "\n").filter { line in
      line.hasPrefix(name + "{") && labels.allSatisfy { line.contains($0) }
    }
    return lines.count == 1 ? lines[0].split(separator: " ").last.flatMap { Double($0) } : nil
  }

  @Test("a live connection is in the dump, in the list, in the metrics with its bytes, and gone afterwards")
  func liveConnection() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      try mesh.service("echo", vip: "10.96.0.5", target: 8080, [server])
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let vip = SocketAddress(try #require(IPAddress("10.96.0.5")), 80)
      let connection = try TCPClient(in: client.pod).connect(to: vip)
      #expect(try connection.exchange("0123456789") == "0123456789")

      let left = try dump(mesh.left)
      for key in [
        "workloads", "services", "policies", "stagedServices", "certificates", "workloadState", "config",
        "staticConfig", "version",
      ] { #expect(left[key] != nil, "\(key)") }
      let fixed = try #require(left["staticConfig"] as? [String: [[String: Any]]])
      #expect(Set((fixed["workloads"] ?? []).compactMap { $0["name"] as? String }) == ["client", "server"])
      #expect(fixed["services"]?.count == 1 && fixed["policies"]?.isEmpty == true)
      let certificates = try #require(left["certificates"] as? [[String: Any]])
      let own = try #require(certificates.first { $0["identity"] as? String == client.identity })
      #expect(own["state"] as? String == "Available")
      let leaf = try #require((own["certChain"] as? [[String: Any]])?.first)
      let pem = try #require((leaf["pem"] as? String).flatMap { Data(base64Encoded: $0) })
      #expect(String(decoding: pem, as: UTF8.self).hasPrefix("-----BEGIN CERTIFICATE-----"))
      let state = try #require((left["workloadState"] as? [String: [String: Any]])?["uid-client"])
      #expect(state["state"] as? String == "Up")
      let outbound = try #require((state["connections"] as? [String: [[String: Any]]])?["outbound"]?.first)
      #expect(outbound["originalDst"] as? String == "10.96.0.5:80")
      #expect(outbound["actualDst"] as? String == "\(server.pod.ipv4):15008")
      #expect(outbound["protocol"] as? String == "HBONE")
      let right = try dump(mesh.right)
      let there = try #require((right["workloadState"] as? [String: [String: Any]])?["uid-server"])
      let inbound = try #require((there["connections"] as? [String: [[String: Any]]])?["inbound"]?.first)
      #expect(inbound["originalDst"] as? String == "echo.demo.svc.cluster.local")
      #expect(inbound["actualDst"] as? String == "\(server.pod.ipv4):8080")

      let list = try get(mesh.left, "/connections").body
      #expect(list.contains("\"encrypted\": true"))
      #expect(list.contains("\"bytesSent\": 10"))
      #expect(list.contains(server.identity))

      let text = try get(mesh.left, "/metrics", port: 15020).body
      let labels = [
        "reporter=\"source\"", "source_workload=\"client\"", "destination_workload=\"server\"",
        "destination_service=\"echo.demo.svc.cluster.local\"", "source_principal=\"\(client.identity)\"",
        "destination_principal=\"\(server.identity)\"", "connection_security_policy=\"mutual_tls\"",
      ]
      #expect(value(text, "istio_tcp_connections_opened_total", labels) == 1)
      #expect(value(text, "istio_tcp_received_bytes_total", labels) == 10)
      #expect(value(text, "istio_tcp_sent_bytes_total", labels) == 10)
      #expect(value(text, "istio_tcp_connections_closed_total", labels) == nil)
      #expect(value(text, "ztunnel_pod_bytes_total", ["pod=\"client\"", "way=\"sent\""]) == 10)
      #expect(value(text, "istio_tcp_sockets_open", ["reporter=\"source\""]) == 1)
      #expect(text.contains("workload_manager_active_proxy_count 1\n"))

      try connection.finishSending()
      #expect(try connection.end() == .orderly)
      #expect(try mesh.left.ztunnel.waitForLine("connection complete", "outbound") != nil)
      let after = try get(mesh.left, "/metrics", port: 15020).body
      #expect(value(after, "istio_tcp_connections_closed_total", labels + ["response_flags=\"-\""]) == 1)
      #expect(value(after, "istio_tcp_sockets_open", ["reporter=\"source\""]) == 0)
      #expect(!(try get(mesh.left, "/connections").body.contains("\"pod\"")))
    }
  }

  @Test("a denied connection is counted by its flag, its code and its policy")
  func denials() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      try mesh.add(MeshPolicy(name: "nobody", action: .deny, matches: ["destinationPorts: [8080]"]))
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      #expect(try connection.end() == .reset)
      #expect(try mesh.right.ztunnel.waitForLine("connection complete", "POLICY_DENIED") != nil)
      let text = try get(mesh.right, "/stats/prometheus", port: 15020).body
      let denied = ["reporter=\"destination\"", "response_flags=\"DENY\""]
      #expect(value(text, "istio_tcp_connections_failed_total", denied) == 1)
      #expect(value(text, "ztunnel_policy_denials_total", ["policy=\"demo/nobody\""]) == 1)
      #expect(value(text, "ztunnel_connection_errors_total", ["code=\"POLICY_DENIED\""]) == 1)
    }
  }

  @Test("levels of the log change at run time, with either separator, and return")
  func logging() async throws {
    try await MeshFixture.with { mesh in
      let node = mesh.left
      #expect(try get(node, "/logging").status == 405)
      let changed = try get(node, "/logging?level=ztunnel::inpod:debug,access=off", ["-X", "POST"])
      #expect(changed.status == 200)
      #expect(changed.body.contains("ztunnel::inpod=debug,access=off"))
      #expect(try get(node, "/logging?level=warning", ["-X", "POST"]).body.contains("warn"))
      #expect(try get(node, "/logging?level=access=loud", ["-X", "POST"]).status == 400)
      let back = try get(node, "/logging?reset", ["-X", "POST"])
      #expect(back.body == "current log level is info,access=debug,ztunnel::state=debug\n")
      #expect(try get(node, "/logging?level=", ["-X", "POST"]).body == back.body)
    }
  }

  @Test("one pod's connections are told of in detail, under an id that both ends have")
  func onePodsLog() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let other = try await mesh.pod("other", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      for (node, pod) in [(mesh.left, "client"), (mesh.right, "server")] {
        let set = try get(node, "/logging?level=pod/demo/\(pod)=debug", ["-X", "POST"])
        #expect(set.body.contains("pod/demo/\(pod)=debug"))
      }
      for pod in [other, client] {
        #expect(try TCPClient(in: pod.pod).connect(to: server.address(port: 8080)).exchange("hello") == "hello")
      }
      let (left, right) = (try mesh.left.ztunnel, try mesh.right.ztunnel)
      let line = try #require(
        left.waitForLine("proxy{wl=\"demo/client\"}:outbound{id=", "route chosen", "way=\"tunnel\""))
      let id = try #require(line.firstMatch(of: /outbound\{id="([0-9a-f]{32})"\}/).map { String($0.1) })
      #expect(right.waitForLine("proxy{wl=\"demo/server\"}:inbound{id=\"\(id)\"}", "policy asked") != nil)
      #expect(!left.hasLine("proxy{wl=\"demo/other\"}"))
    }
  }

  @Test("only this machine's people are answered, and what is unknown is not there")
  func refusals() async throws {
    try await MeshFixture.with { mesh in
      let node = mesh.left
      #expect(try get(node, "/", ["-H", "Host: attacker.example"]).status == 403)
      let foreign = try get(node, "/quitquitquit", ["-X", "POST", "-H", "Origin: http://attacker.example"])
      #expect(foreign.status == 403)
      #expect(try get(node, "/quitquitquit").status == 405)
      #expect(try get(node, "/nothing").status == 404)
      #expect(try get(node, "/").body.contains("/config_dump"))
      #expect(try get(node, "/debug/pprof/heap").body.contains("<malloc"))
      #expect(try get(node, "/debug/pprof/profile").status == 501)
      #expect(try get(node, "/debug/pprof/heap/profiling").body.hasPrefix("active"))
      #expect(try get(node, "/debug/pprof/heap/profiling?activate=true").status == 200)
      #expect(try get(node, "/debug/pprof/heap/profiling?activate=perhaps").status == 400)
      #expect(try get(node, "/version").body.contains("\"cryptoProvider\": \"openssl\""))
    }
  }

  @Test("readiness is told, and an end on request drains: not ready is an answer then")
  func endOnRequest() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      #expect(try eventually(within: .seconds(10)) { try get(mesh.left, "/healthz/ready", port: 15021).status == 200 })
      let connection = try TCPClient(in: client.pod).connect(to: server.address(port: 8080))
      #expect(try connection.exchange("hello") == "hello")
      let end = try get(mesh.left, "/quitquitquit", ["-X", "POST"])
      #expect(end.body == "shutdown now\n")
      let draining = try get(mesh.left, "/healthz/ready", port: 15021)
      #expect(draining.status == 500)
      #expect(draining.body == "not ready, draining\n")
      #expect(try mesh.left.ztunnel.waitForExit(within: .seconds(20)) == 0)
    }
  }

  @Test("the node agent says how its workloads stand, and that it is ready")
  func nodeAgent() async throws {
    try await DaemonFixture.with { daemons in
      let node = daemons.mesh.left
      let client = try await daemons.pod("client", on: node)
      #expect(try get(node, "/readyz", port: 8000).body == "ready\n")
      try client.pod.mustRun(["iptables-legacy", "-t", "nat", "-F"])
      #expect(try daemons.agent(of: node).waitForLine("redirection deviated", "uid-client") != nil)
      let repaired = try eventually(within: .seconds(10)) {
        try get(node, "/metrics", port: 15014).body.contains("node_agent_rule_repairs_total 1\n")
      }
      #expect(repaired)
      let text = try get(node, "/metrics", port: 15014).body
      #expect(text.contains("nodeagent_reconcile_events_total{type=\"add\"} 1\n"))
      #expect(text.contains("\nztunnel_connected 1\n"))
    }
  }

  @Test("promtool finds nothing to complain of in the node agent's metrics", .requires(.command("promtool")))
  func promtoolOnAgent() async throws {
    try await DaemonFixture.with { daemons in
      let node = daemons.mesh.left
      _ = try await daemons.pod("client", on: node)
      let text = try get(node, "/metrics", port: 15014).body
      #expect(text.contains("nodeagent_reconcile_events_total{type=\"add\"} 1\n"))
      let file = daemons.mesh.directory + "/agent.txt"
      try text.write(toFile: file, atomically: true, encoding: .utf8)
      #expect(try PromTool.check("metrics", file).isEmpty)
    }
  }

  @Test(
    "promtool finds nothing to complain of but names that Istio has chosen",
    .requires(.command("promtool")))
  func promtool() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      #expect(try TCPClient(in: client.pod).connect(to: server.address(port: 8080)).exchange("hello") == "hello")
      let text = try get(mesh.left, "/metrics", port: 15020).body
      let file = mesh.directory + "/metrics.txt"
      try text.write(toFile: file, atomically: true, encoding: .utf8)
      let complaints = try PromTool.check("metrics", file).filter { !$0.hasPrefix("workload_manager_") }
      #expect(complaints.isEmpty)
      let open = try get(mesh.left, "/metrics", port: 15020, ["-H", "Accept: application/openmetrics-text"]).body
      #expect(open.hasSuffix("# EOF\n"))
      #expect(open.contains("# TYPE istio_tcp_connections_opened counter\n"))
    }
  }
}

/// Prometheus' own checker.
enum PromTool {
  /// The lines in which it complains.
  static func check(_ what: String, _ file: String) throws -> [String] {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/sh")
    process.arguments = ["-c", "promtool check \(what) \(what == "metrics" ? "<" : "") '\(file)' 2>&1 || true"]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let output = String(decoding: pipe.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return output.split(separator: "\n").map(String.init)
  }
}
