import Linux
import Testing
import Vocabulary

@testable import NodeAgent

@Suite("What is remembered of pods")
struct RememberedPodTests {
  private static func pod(_ uid: String = "u", sandbox: ClusterView.Sandbox? = nil) throws -> RememberedPod {
    var wishes = CaptureAnnotations()
    wishes.bypassInboundCapture = false
    wishes.dnsCapture = true
    wishes.rerouteInterfaces = [try #require(.init("tap0")), try #require(.init("tap1"))]
    return RememberedPod(
      uid: uid, info: .init(name: "web", namespace: "shop", serviceAccount: "sa"),
      addresses: [try #require(IPAddress("10.0.0.1")), try #require(IPAddress("fd00::1"))], annotations: wishes,
      sandbox: sandbox)
  }

  private static let sandbox = ClusterView.Sandbox(
    path: "/run/netns/x", containerID: "c1", addresses: [],
    namespace: NamespaceIdentity(device: 4, inode: .max))

  @Test("all of it comes back as it was written", arguments: [nil, sandbox, .init(addresses: [])])
  func roundTrip(sandbox: ClusterView.Sandbox?) throws {
    let pod = try Self.pod(sandbox: sandbox)
    #expect(RememberedPod(uid: "u", bytes: pod.bytes(boot: "b"), boot: "b") == pod)
  }

  @Test("what was true before the machine booted, and what makes no sense, is not believed")
  func refused() throws {
    let bytes = try Self.pod().bytes(boot: "b")
    #expect(RememberedPod(uid: "u", bytes: bytes, boot: "other") == nil)
    for end in [0, 1, bytes.count / 2, bytes.count - 1] {
      #expect(RememberedPod(uid: "u", bytes: Array(bytes.prefix(end)), boot: "b") == nil)
    }
  }

  @Test("a path counts only with the namespace that was there, and nothing at all without proof")
  func proof() throws {
    var pod = try Self.pod(sandbox: Self.sandbox)
    #expect(pod.workload?.sandbox == "/run/netns/x")
    pod.sandbox?.namespace = nil
    #expect(pod.workload != nil && pod.workload?.sandbox == nil)
    pod.addresses = []
    #expect(pod.workload == nil)
  }

  @Test("files outlive the agent, those of pods that only may have something inside too")
  func memory() throws {
    let directory = try TemporaryDirectory()
    let files = RememberedFiles(directory: directory.path)
    var memory = PodMemory(files, boot: "b")
    memory.remember(try Self.pod("u1"))
    memory.remember(try Self.pod("u2"))
    memory.rememberTouched("u2")
    memory.remember(try Self.pod("u3"))
    memory.forget("u3")
    memory.rememberTouched("../u4")
    let next = PodMemory(files, boot: "b")
    #expect(next.touched == ["u1", "u2"])
    #expect(next.pods == ["u1": try Self.pod("u1")])
    #expect(PodMemory(files, boot: "c").touched == ["u1", "u2"])
    #expect(PodMemory(files, boot: "c").pods.isEmpty)
  }
}
