import Foundation
import Linux
import Logging
import Mesh
import Synchronization
import TestSupport
import Testing

@testable import Ztunnel

/// A mesh with one workload for every name, at 10.9.0.1 and up.
private func mesh(_ names: String..., extra: String = "") -> String {
  guard !names.isEmpty else { return "workloads: []\n" + extra }
  return "workloads:\n"
    + names.enumerated().map { index, name in
      """
      - uid: west//Pod/shop/\(name)
        name: \(name)
        namespace: shop
        serviceAccount: \(name)
        node: worker-1
        workloadIps: ["10.9.0.\(index + 1)"]
        protocol: HBONE
        services: {}

      """
    }.joined() + extra
}

private let denyAll = """
  policies:
  - name: nobody
    namespace: shop
    scope: Namespace
    action: Allow
    dryRun: false
    rules: []

  """

/// A directory that goes with the test.
private final class Scratch: Sendable {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "mesh-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  subscript(_ name: String) -> String { path + "/" + name }

  func write(_ text: String, to name: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: self[name]))
  }

  /// Writes a whole new file and gives it the name of the old one.
  func replace(_ name: String, with text: String) throws {
    try write(text, to: name + ".new")
    try system("rename") { rename(self[name + ".new"], self[name]) }
  }
}

/// Whether a condition comes true, waiting without holding a thread that the code under test may need.
private func soon(_ condition: () async throws -> Bool) async throws -> Bool {
  try await eventually(within: .seconds(15), condition)
}

/// What a source published and logged, read by a test.
private final class Record: Sendable {
  private let state = Mutex<(published: [(MeshSnapshot, MeshDelta)], errors: Int, onLoop: Bool)>(([], 0, true))

  func publish(_ snapshot: MeshSnapshot, _ delta: MeshDelta, isOnLoop: Bool) {
    state.withLock {
      $0.published.append((snapshot, delta))
      $0.onLoop = $0.onLoop && isOnLoop
    }
  }

  func countError() { state.withLock { $0.errors += 1 } }

  var count: Int { state.withLock { $0.published.count } }
  var errors: Int { state.withLock { $0.errors } }
  var isAllOnLoop: Bool { state.withLock { $0.onLoop } }
  var names: [String] {
    state.withLock { $0.published.last?.0.allWorkloads.map(\.name).sorted() ?? [] }
  }
  var lastDelta: MeshDelta? { state.withLock { $0.published.last?.1 } }
}

/// Counts errors and drops the text.
private struct ErrorCounter: LogHandler {
  let record: Record
  var metadata: Logger.Metadata = [:]
  var logLevel: Logger.Level = .trace

  subscript(metadataKey key: String) -> Logger.MetadataValue? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    if event.level >= .error { record.countError() }
  }
}

@Suite("Mesh file: reload", .timeLimit(.minutes(1)))
struct MeshFileReloadTests {
  /// Keeps a source; used on the loop's thread only.
  private final class Holder: @unchecked Sendable {
    var source: MeshFileSource?
  }

  /// Runs `body` while a source follows `mesh.yaml` in a new directory.
  private func following(
    _ first: String, period: Duration = .seconds(60), prepare: ((Scratch) throws -> Void)? = nil,
    _ body: (Scratch, Record, () async -> String?) async throws -> Void
  ) async throws {
    let scratch = try Scratch()
    if let prepare { try prepare(scratch) } else { try scratch.write(first, to: "mesh.yaml") }
    let record = Record()
    let holder = Holder()
    let path = scratch["mesh.yaml"]
    let loop = try EventLoop(name: "control")
    try loop.start()
    defer {
      loop.stop()
      loop.join()
    }
    let error = await loop.run { () -> MeshFileSourceError? in
      do throws(MeshFileSourceError) {
        holder.source = try MeshFileSource(
          .file(path),
          into: MeshState(settings: MeshSettings(localNode: "worker-1")) { snapshot, delta in
            record.publish(snapshot, delta, isOnLoop: loop.isCurrent)
          }, period: period, on: loop, log: Logger(label: "test", factory: { _ in ErrorCounter(record: record) }))
        holder.source?.start()
        return nil
      } catch {
        return error
      }
    }
    #expect(error == nil)
    try await body(scratch, record) { await loop.run { holder.source?.latestError?.code } }
    #expect(record.isAllOnLoop)
    await loop.run {
      holder.source?.stop()
      holder.source = nil
    }
  }

  @Test("the first version is published at the start, with all that it brings")
  func first() async throws {
    try await following(mesh("cart", "web")) { _, record, _ in
      #expect(record.count == 1)
      #expect(record.names == ["cart", "web"])
      #expect(record.lastDelta?.changedWorkloads.count == 2)
      #expect(record.lastDelta?.addedLocalIdentities.count == 2)
    }
  }

  @Test("a file replaced by rename is published, and only what differs is changed")
  func replaced() async throws {
    try await following(mesh("cart", "web")) { scratch, record, _ in
      try scratch.replace("mesh.yaml", with: mesh("cart", "api", extra: denyAll))
      #expect(try await soon { record.count == 2 })
      #expect(record.names == ["api", "cart"])
      #expect(record.lastDelta?.changedWorkloads == ["west//Pod/shop/api"])
      #expect(record.lastDelta?.removedWorkloads == ["west//Pod/shop/web"])
      #expect(record.lastDelta?.changedPolicies == ["shop/nobody"])
      #expect(record.lastDelta?.removedLocalIdentities.count == 1)
    }
  }

  @Test("a file written in place is published")
  func writtenInPlace() async throws {
    try await following(mesh("cart")) { scratch, record, _ in
      let handle = try #require(FileHandle(forWritingAtPath: scratch["mesh.yaml"]))
      try handle.truncate(atOffset: 0)
      try handle.write(contentsOf: Data(mesh("web").utf8))
      try handle.close()
      #expect(try await soon { record.names == ["web"] })
      #expect(record.count == 2)
      #expect(record.errors == 0)
    }
  }

  @Test("a slow writer is waited for: half a document is never in force")
  func slowWriter() async throws {
    try await following(mesh("cart", "web")) { scratch, record, _ in
      let handle = try #require(FileHandle(forWritingAtPath: scratch["mesh.yaml"]))
      let text = Array(mesh("cart", "web", "api").utf8)
      try handle.truncate(atOffset: 0)
      // The first half, cut after the first workload, would be a valid mesh.
      let half = mesh("cart").utf8.count
      try handle.write(contentsOf: Data(text[..<half]))
      try await Task.sleep(for: .milliseconds(400))
      try handle.write(contentsOf: Data(text[half...]))
      try handle.close()
      #expect(try await soon { record.count == 2 })
      #expect(record.names == ["api", "cart", "web"])
      #expect(record.lastDelta?.removedWorkloads == [])
    }
  }

  @Test("links swapped as in a ConfigMap volume are followed")
  func swapped() async throws {
    let files = FileManager.default
    let prepare = { (scratch: Scratch) in
      for (directory, name) in [("..1", "cart"), ("..2", "web")] {
        try files.createDirectory(atPath: scratch[directory], withIntermediateDirectories: false)
        try scratch.write(mesh(name), to: directory + "/mesh.yaml")
      }
      try files.createSymbolicLink(atPath: scratch["..data"], withDestinationPath: "..1")
      try files.createSymbolicLink(atPath: scratch["mesh.yaml"], withDestinationPath: "..data/mesh.yaml")
    }
    try await following("", prepare: prepare) { scratch, record, _ in
      #expect(record.names == ["cart"])
      try files.createSymbolicLink(atPath: scratch["..data_tmp"], withDestinationPath: "..2")
      try system("rename") { rename(scratch["..data_tmp"], scratch["..data"]) }
      #expect(try await soon { record.names == ["web"] })
    }
  }

  @Test("a bad version changes nothing and is told once; the next good one is applied to the last good one")
  func badThenGood() async throws {
    try await following(mesh("cart", "web")) { scratch, record, latestError in
      try scratch.replace("mesh.yaml", with: "workloads:\n- nonsense: true\n")
      #expect(try await soon { record.errors == 1 })
      #expect(await latestError() == "MESH_FILE_INVALID")
      #expect(record.count == 1)
      #expect(record.names == ["cart", "web"])
      // The same again is no news.
      try scratch.replace("mesh.yaml", with: "workloads:\n- nonsense: true\n")
      try await Task.sleep(for: .milliseconds(500))

      try scratch.replace("mesh.yaml", with: mesh("cart"))
      #expect(try await soon { record.count == 2 })
      #expect(record.lastDelta?.removedWorkloads == ["west//Pod/shop/web"])
      #expect(record.lastDelta?.changedWorkloads == [])
      #expect(await latestError() == nil)
      #expect(record.errors == 1)
    }
  }

  @Test("a file that is emptied or removed leaves the last good version in force")
  func emptiedThenRemoved() async throws {
    try await following(mesh("cart")) { scratch, record, latestError in
      try scratch.replace("mesh.yaml", with: " \n")
      #expect(try await soon { await latestError() == "MESH_FILE_EMPTY" })
      try FileManager.default.removeItem(atPath: scratch["mesh.yaml"])
      #expect(try await soon { await latestError() == "MESH_FILE_UNREADABLE" })
      #expect(record.count == 1)
      #expect(record.names == ["cart"])
      #expect(record.errors == 2)

      try scratch.replace("mesh.yaml", with: mesh("cart"))
      #expect(try await soon { await latestError() == nil })
      #expect(record.count == 1)
    }
  }

  @Test("a version that says the same in other words is not published")
  func sameContent() async throws {
    try await following(mesh("cart")) { scratch, record, latestError in
      try scratch.replace("mesh.yaml", with: "# reviewed\n" + mesh("cart"))
      // Known to have been read once a bad version after it was.
      try await Task.sleep(for: .milliseconds(400))
      try scratch.replace("mesh.yaml", with: "[")
      #expect(try await soon { await latestError() == "MESH_FILE_SYNTAX" })
      #expect(record.count == 1)
    }
  }

  @Test("a change that no event tells of is found by the periodic look")
  func withoutEvents() async throws {
    let prepare = { (scratch: Scratch) in
      try FileManager.default.createDirectory(atPath: scratch["far"], withIntermediateDirectories: false)
      try scratch.write(mesh("cart"), to: "far/mesh.yaml")
      try FileManager.default.createSymbolicLink(
        atPath: scratch["mesh.yaml"], withDestinationPath: "far/mesh.yaml")
    }
    try await following("", period: .milliseconds(100), prepare: prepare) { scratch, record, _ in
      try scratch.replace("far/mesh.yaml", with: mesh("cart", "web"))
      #expect(try await soon { record.names == ["cart", "web"] })
    }
  }

  @Test("many versions one after another end in the last one")
  func manyVersions() async throws {
    try await following(mesh("v0")) { scratch, record, _ in
      for number in 1...60 {
        try scratch.replace("mesh.yaml", with: mesh("v\(number)"))
        try await Task.sleep(for: .milliseconds(10))
      }
      #expect(try await soon { record.names == ["v60"] })
      #expect(record.count < 30)
      #expect(record.errors == 0)
    }
  }

  @Test("a stopped source publishes nothing")
  func stopped() async throws {
    let scratch = try Scratch()
    try scratch.write(mesh("cart"), to: "mesh.yaml")
    let record = Record()
    let path = scratch["mesh.yaml"]
    let loop = try EventLoop(name: "control")
    try loop.start()
    defer {
      loop.stop()
      loop.join()
    }
    let holder = Holder()
    await loop.run {
      let state = MeshState(settings: MeshSettings()) { record.publish($0, $1, isOnLoop: true) }
      holder.source = try? MeshFileSource(.file(path), into: state, on: loop)
      holder.source?.start()
      holder.source?.stop()
      holder.source?.stop()
    }
    try scratch.replace("mesh.yaml", with: mesh("web"))
    try await Task.sleep(for: .milliseconds(400))
    await loop.run { holder.source = nil }
    #expect(record.count == 1)
  }

  @Test("an inline document is published once, and nothing is watched")
  func inline() async throws {
    let record = Record()
    let loop = try EventLoop(name: "control")
    try loop.start()
    defer {
      loop.stop()
      loop.join()
    }
    await loop.run {
      let state = MeshState(settings: MeshSettings()) { record.publish($0, $1, isOnLoop: true) }
      let source = try? MeshFileSource(.inline(mesh("cart")), into: state, on: loop)
      source?.start()
      source?.start()
    }
    #expect(record.names == ["cart"])
    #expect(record.count == 1)
  }
}

extension EventLoop {
  /// Runs `body` as a task of the loop and gives its value to a test.
  fileprivate func run<Result: Sendable>(_ body: @escaping @Sendable () async -> Result) async -> Result {
    await withCheckedContinuation { continuation in
      spawn { continuation.resume(returning: await body()) }
    }
  }
}
