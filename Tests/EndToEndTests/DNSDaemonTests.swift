import Foundation
import TestSupport
import Testing

@Suite(
  "DNS capture that a workload file asks for",
  .requires(.root, .command("ip"), .command("dig"), .command("iptables-legacy-save")), .timeLimit(.minutes(2)))
struct DNSDaemonTests {
  @Test("has the pod's queries answered, and ends when the file no longer asks for it")
  func annotation() async throws {
    try await DaemonFixture.with(environment: ["ISTIO_META_DNS_CAPTURE": "true"]) { daemons in
      let mesh = daemons.mesh
      let pod = try await mesh.pod("client", on: mesh.left, enrolled: false)
      try mesh.service("web", vip: "10.96.0.1", target: 8080, [pod])
      let dig = ["dig", "@10.96.0.10", "+short", "+tries=1", "+timeout=2", "web.demo.svc.cluster.local", "A"]
      let asks = "annotations:\n  ambient.istio.io/dns-capture: \"true\"\n"
      try daemons.write(daemons.description(of: pod) + asks, for: "client", on: mesh.left)
      try #require(try daemons.agent(of: mesh.left).waitForLine("enrolled", "uid-client") != nil)
      #expect(try pod.pod.mustRun(dig) == "10.96.0.1\n")

      try daemons.write(daemons.description(of: pod), for: "client", on: mesh.left)
      #expect(try eventually(within: .seconds(10)) { try !pod.pod.countedRules.contains { $0.contains("15053") } })
      #expect(try !pod.pod.run(dig, timeout: .seconds(10)).succeeded, "the resolver it asks does not exist")
    }
  }
}
