import Foundation
import Testing

@testable import TestSupport

extension MeshFixture {
  /// Changes the mesh file by hand, after everything that the fixture itself writes: fields for pods by name, and whole
  /// entries of workloads and services. Returns when both proxies have it in force.
  func amend(fields: [String: [String]] = [:], workloads: [String] = [], services: [String] = []) throws {
    var text = try String(contentsOfFile: meshFile, encoding: .utf8)
    for (name, lines) in fields {
      let head = "- uid: Kubernetes//Pod/demo/\(name)\n"
      try #require(text.contains(head), "the mesh knows \(name)")
      text = text.replacingOccurrences(of: head, with: head + lines.map { "  \($0)\n" }.joined())
    }
    if !workloads.isEmpty {
      let entries = "\n" + workloads.joined(separator: "\n")
      text = text.replacingOccurrences(of: "\nservices:", with: entries + "\nservices:")
    }
    if !services.isEmpty {
      let list = "\nservices:\n" + services.joined(separator: "\n") + "\n"
      text = text.replacingOccurrences(of: "\nservices: []\n", with: list)
      if !text.contains(list) { text = text.replacingOccurrences(of: "\nservices:\n", with: list) }
    }
    let running = try [left.ztunnel, right.ztunnel].filter(\.isRunning).map { (process: $0, known: versions(of: $0)) }
    try text.write(toFile: meshFile, atomically: true, encoding: .utf8)
    for (process, known) in running {
      let isInForce = eventually(within: .seconds(10)) { versions(of: process) > known }
      try #require(isInForce, "the proxy takes over the mesh file: \(process.lines.suffix(3))")
    }
  }

  private func versions(of process: RunningProcess) -> Int {
    process.lines.count { $0.contains("mesh in force on every worker") }
  }

  /// An entry of a service in the namespace of the pods. `ports` are in YAML's flow style, `80: 8080`; each of
  /// `endpoints` is a pod's name and has the same ports.
  func serviceEntry(_ name: String, vip: String, ports: String, endpoints: [String], fields: [String] = []) -> String {
    let members = endpoints.map { name in
      let uid = "Kubernetes//Pod/demo/\(name)"
      return "\"\(uid)\": {workloadUid: \"\(uid)\", port: {\(ports)}}"
    }
    return """
      - name: \(name)
        namespace: demo
        hostname: \(name).demo.svc.cluster.local
        vips: ["/\(vip)"]
        ports: {\(ports)}
        endpoints: {\(members.joined(separator: ", "))}
      \(fields.map { "  \($0)\n" }.joined())
      """
  }
}
