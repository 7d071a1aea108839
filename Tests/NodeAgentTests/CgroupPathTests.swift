import Testing

@testable import NodeAgent

@Suite("Control group paths of pods")
struct CgroupPathTests {
  private static let id = String(repeating: "4e9d", count: 16)

  @Test(
    "pod and container of every runtime and driver",
    arguments: [
      ("cgroupfs", "/kubepods/burstable/pod2c48913c-b29f-11e7-9350-020968147796/\(id)"),
      ("nested docker", "/docker/8d4/kubepods/besteffort/pod2c48913c-b29f-11e7-9350-020968147796/\(id)"),
      (
        "systemd, docker",
        "/kubepods.slice/kubepods-burstable.slice/"
          + "kubepods-burstable-pod2c48913c-b29f-11e7-9350-020968147796.slice/docker-\(id).scope"
      ),
      (
        "systemd, containerd",
        "/kubelet.slice/kubelet-kubepods-besteffort-pod2c48913c_b29f_11e7_9350_020968147796.slice/"
          + "cri-containerd-\(id).scope"
      ),
      (
        "containerd with colons",
        "/kubepods-besteffort-pod2c48913c_b29f_11e7_9350_020968147796.slice:cri-containerd:\(id)"
      ),
      ("relative", "/../../pod2c48913c-b29f-11e7-9350-020968147796/\(id)"),
      (
        "CRI-O, systemd",
        "/kubepods.slice/kubepods-pod2c48913c_b29f_11e7_9350_020968147796.slice/crio-\(id).scope"
      ),
    ])
  func known(driver: String, path: String) {
    let found = CgroupPath(path)
    #expect(found?.podUID == "2c48913c-b29f-11e7-9350-020968147796")
    #expect(found?.containerID == Self.id)
  }

  @Test(
    "what belongs to no pod, or names none",
    arguments: [
      "/", "", "/init.scope", "/user.slice/user-0.slice/session-1.scope", "/../crio-abc.scope",
      "/kubepods/burstable/pod2c48913c-b29f-11e7-9350-020968147796",
      "/kubepods/burstable/pod2c48913c-b29f-11e7-9350-020968147796/",
      "/kubepods/burstable/pod2c48913c-b29f-11e7-9350-02096814779/abc",
      "/kubepods/burstable/pod2c48913c-b29f-11e7-9350-020968147796//abc",
      "/kubepods/burstable/pod2c48913c-b29f-11e7-9350-020968147796x/abc",
      "/kubepods/burstable/tripod2c48913c-b29f-11e7-9350-020968147796/abc",
    ])
  func unknown(path: String) {
    #expect(CgroupPath(path) == nil)
  }

  @Test("a UID without separators is no UID of the API")
  func withoutSeparators() {
    #expect(CgroupPath("/pod2c48913cb29f11e79350020968147796/abc")?.podUID == "2c48913cb29f11e79350020968147796")
  }

  @Test("all lines of a process speak of the same container, or it is nobody's")
  func files() throws {
    let pod = "/kubepods/pod2c48913c-b29f-11e7-9350-020968147796"
    #expect(try CgroupPath.of(cgroupFile: "0::\(pod)/a\n")?.containerID == "a")
    #expect(
      try CgroupPath.of(cgroupFile: "2:cpu,cpuacct:\(pod)/a\n1:name=systemd:\(pod)/a\n0::/\n")?.containerID == "a")
    #expect(try CgroupPath.of(cgroupFile: "0::/init.scope\n") == nil)
    #expect(throws: CgroupPath.Contradiction.self) {
      try CgroupPath.of(cgroupFile: "2:cpu:\(pod)/a\n1:pids:\(pod)/b\n")
    }
    #expect(throws: CgroupPath.Contradiction.self) { try CgroupPath.of(cgroupFile: "nonsense\n") }
  }
}
