import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

@testable import NodeAgent

/// A directory that looks like `/proc`, with processes in namespaces of the test's own.
private final class FakeProc {
  let directory: TemporaryDirectory
  let namespaces: NamedNamespaces
  var path: String { directory.path }

  init() throws {
    directory = try TemporaryDirectory()
    namespaces = try NamedNamespaces()
    try add(1, pod: nil, in: "/proc/self/ns/net", started: 1)
  }

  /// A namespace with an address, under a name.
  func makeNamespace(_ name: String, address: String) throws {
    try namespaces.make(name)
    let namespace = try NetworkNamespace(path: namespaces.path(name))
    try Command.mustRun(["ip", "addr", "add", "\(address)/32", "dev", "lo"], in: namespace)
  }

  func add(_ process: Int, pod: String?, in namespace: String, started: Int) throws {
    let home = "\(path)/\(process)"
    try FileManager.default.createDirectory(atPath: home + "/ns", withIntermediateDirectories: true)
    try FileManager.default.createSymbolicLink(atPath: home + "/ns/net", withDestinationPath: namespace)
    let group = pod.map { "/kubepods/pod\($0)/0123456789ab" } ?? "/init.scope"
    try "0::\(group)\n".write(toFile: home + "/cgroup", atomically: true, encoding: .utf8)
    let fields = ["S"] + Array(repeating: "0", count: 18) + ["\(started)", "0"]
    try "\(process) (a) b) \(fields.joined(separator: " "))\n".write(
      toFile: home + "/stat", atomically: true, encoding: .utf8)
  }

  func remove(_ process: Int) throws { try FileManager.default.removeItem(atPath: "\(path)/\(process)") }
}

@Suite("Namespaces of pods, by their processes", .requires(.root, .command("ip")))
struct PodNamespaceFinderTests {
  private static let uid = "2c48913c-b29f-11e7-9350-020968147796"
  private static let other = "daa5c7ee-3484-4533-af39-3591564fd03e"

  private static func address(_ text: String) throws -> IPAddress { try #require(IPAddress(text)) }

  private static func finder(_ proc: FakeProc) -> PodNamespaceFinder {
    PodNamespaceFinder(proc: proc.path, freshness: .zero)
  }

  @Test("the namespace that has the pod's address is the pod's")
  func found() throws {
    let proc = try FakeProc()
    try proc.makeNamespace("a", address: "10.1.1.1")
    try proc.add(100, pod: Self.uid, in: proc.namespaces.path("a"), started: 50)
    let found = Self.finder(proc).find(Self.uid, [try Self.address("10.1.1.1")])
    #expect(try found?.identity == NetworkNamespace(path: proc.namespaces.path("a")).identity)
    #expect(Self.finder(proc).find(Self.other, [try Self.address("10.1.1.1")]) == nil)
  }

  @Test("a process of the pod in another pod's namespace proves nothing")
  func foreign() throws {
    let proc = try FakeProc()
    try proc.makeNamespace("a", address: "10.1.1.1")
    try proc.makeNamespace("b", address: "10.1.1.2")
    try proc.add(100, pod: Self.uid, in: proc.namespaces.path("b"), started: 10)
    try proc.add(200, pod: Self.uid, in: proc.namespaces.path("a"), started: 90)
    let found = Self.finder(proc).find(Self.uid, [try Self.address("10.1.1.1")])
    #expect(try found?.identity == NetworkNamespace(path: proc.namespaces.path("a")).identity)
    #expect(Self.finder(proc).find(Self.uid, [try Self.address("10.9.9.9")]) == nil)
    #expect(Self.finder(proc).find(Self.uid, []) == nil)
  }

  @Test("of two namespaces with the address, that of the older process is the pod's")
  func older() throws {
    let proc = try FakeProc()
    for name in ["a", "b"] { try proc.makeNamespace(name, address: "10.1.1.1") }
    try proc.add(100, pod: Self.uid, in: proc.namespaces.path("a"), started: 90)
    try proc.add(200, pod: Self.uid, in: proc.namespaces.path("b"), started: 10)
    let found = Self.finder(proc).find(Self.uid, [try Self.address("10.1.1.1")])
    #expect(try found?.identity == NetworkNamespace(path: proc.namespaces.path("b")).identity)
  }

  @Test("a pod on the node's own network is not found")
  func hostNetwork() throws {
    let proc = try FakeProc()
    try proc.add(100, pod: Self.uid, in: "/proc/self/ns/net", started: 5)
    #expect(Self.finder(proc).scan().isEmpty)
  }

  @Test("processes that come and go, and files that make no sense, do no harm")
  func broken() throws {
    let proc = try FakeProc()
    try proc.makeNamespace("a", address: "10.1.1.1")
    for process in 100...103 { try proc.add(process, pod: Self.uid, in: proc.namespaces.path("a"), started: 7) }
    try "x".write(toFile: proc.path + "/100/stat", atomically: true, encoding: .utf8)
    try "x".write(toFile: proc.path + "/101/cgroup", atomically: true, encoding: .utf8)
    try FileManager.default.removeItem(atPath: proc.path + "/102/ns/net")
    let finder = Self.finder(proc)
    #expect(finder.scan()[Self.uid]?.map(\.process) == [103])
    #expect(finder.find(Self.uid, [try Self.address("10.1.1.1")]) != nil)
    try proc.remove(103)
    #expect(finder.find(Self.uid, [try Self.address("10.1.1.1")]) == nil)
  }

  @Test("a process number that belongs to another process by now is not taken for the old one")
  func reused() throws {
    let proc = try FakeProc()
    try proc.makeNamespace("a", address: "10.1.1.1")
    try proc.makeNamespace("b", address: "10.1.1.1")
    try proc.add(100, pod: Self.uid, in: proc.namespaces.path("a"), started: 7)
    let finder = Self.finder(proc)
    let addresses = [try Self.address("10.1.1.1")]
    #expect(finder.find(Self.uid, addresses) != nil)
    try proc.remove(100)
    try proc.add(100, pod: Self.other, in: proc.namespaces.path("b"), started: 99)
    #expect(finder.find(Self.uid, addresses) == nil)
  }

  @Test("a sandbox that the runtime told is taken only with one of the pod's addresses in it")
  func sandbox() throws {
    let proc = try FakeProc()
    try proc.makeNamespace("a", address: "10.1.1.1")
    try proc.makeNamespace("b", address: "10.1.1.2")
    let opener = NamespaceOpener(refusing: [], finder: Self.finder(proc))
    func open(_ path: String, _ address: String?, held: NetworkNamespace? = nil) throws -> NamespaceIdentity {
      let addresses = try address.map { [try Self.address($0)] } ?? []
      return try opener.open(
        .pod(PodPlacement(uid: Self.uid, addresses: addresses, sandbox: path)), held: held
      ).identity
    }
    let namespace = try NetworkNamespace(path: proc.namespaces.path("a"))
    #expect(try open(proc.namespaces.path("a"), "10.1.1.1") == namespace.identity)
    #expect(try open(proc.namespaces.path("a"), nil) == namespace.identity)
    #expect(throws: EnrolmentError.self) { try open(proc.namespaces.path("b"), "10.1.1.1") }
    // What is held goes on being the pod's while nothing else is found and its address is there.
    #expect(try open("/gone", "10.1.1.1", held: namespace) == namespace.identity)
    #expect(throws: EnrolmentError.self) { try open("/gone", "10.1.1.2", held: namespace) }
    #expect(throws: EnrolmentError.podWithoutAddress(uid: Self.uid)) { try open("/gone", nil, held: namespace) }
  }
}
