import Glibc
import Linux
import Logging
import Testing

@testable import NodeAgent

private func yaml(_ names: String...) -> String {
  "workloads:\n" + names.map { "- {name: \($0), namespace: shop, netns: /n/\($0)}\n" }.joined()
}

/// A time at which every file of a test has settled.
private let later: Int64 = .max / 2

extension WorkloadDirectory {
  fileprivate var names: [String] { workloads.map { ($0.inMesh ? "" : "-") + $0.info.name } }
}

@Suite("The directory of workload files")
struct WorkloadDirectoryTests {
  @Test("yaml and yml files are read, others and hidden ones are not")
  func files() throws {
    let temporary = try TemporaryDirectory()
    try temporary.write(yaml("a"), to: "a.yaml")
    try temporary.write(yaml("b"), to: "b.yml")
    try temporary.write(yaml("c"), to: "c.yaml~")
    try temporary.write(yaml("d"), to: ".d.yaml")
    try temporary.write(yaml("e"), to: "e.txt")
    var directory = WorkloadDirectory(path: temporary.path)
    #expect(!directory.isComplete)
    let report = directory.scan(now: later)
    #expect(directory.names == ["a", "b"])
    #expect(directory.isComplete)
    #expect(report == WorkloadDirectory.Report())
  }

  @Test("a changed, a new and a removed file are noticed")
  func changes() throws {
    let temporary = try TemporaryDirectory()
    try temporary.write(yaml("a"), to: "a.yaml")
    try temporary.write(yaml("b"), to: "b.yaml")
    var directory = WorkloadDirectory(path: temporary.path)
    _ = directory.scan(now: later)
    try temporary.write(yaml("a", "a2"), to: "a.yaml")
    temporary.remove("b.yaml")
    try temporary.write(yaml("c"), to: "c.yaml")
    _ = directory.scan(now: later)
    #expect(directory.names == ["a", "a2", "c"])
  }

  @Test("a bad file is reported once, keeps its last good content, and its correction is noticed")
  func badFile() throws {
    let temporary = try TemporaryDirectory()
    try temporary.write(yaml("a"), to: "a.yaml")
    var directory = WorkloadDirectory(path: temporary.path)
    _ = directory.scan(now: later)
    try temporary.write("workloads: [", to: "a.yaml")
    let report = directory.scan(now: later)
    #expect(report.newProblems.map(\.code) == ["WORKLOAD_FILE_NOT_YAML"])
    #expect(report.newProblems.first?.file == "\(temporary.path)/a.yaml")
    #expect(directory.names == ["a"])
    #expect(directory.scan(now: later).newProblems.isEmpty)
    try temporary.write(yaml("a", "b"), to: "a.yaml")
    #expect(directory.scan(now: later).corrected.count == 1)
    #expect(directory.names == ["a", "b"])
  }

  @Test("a truncated file does not take its workloads away")
  func emptied() throws {
    let temporary = try TemporaryDirectory()
    try temporary.write(yaml("a"), to: "a.yaml")
    var directory = WorkloadDirectory(path: temporary.path)
    _ = directory.scan(now: later)
    try temporary.write("", to: "a.yaml")
    #expect(directory.scan(now: later).newProblems.map(\.code) == ["WORKLOAD_FILE_EMPTY"])
    #expect(directory.names == ["a"])
  }

  @Test("a file written a moment ago may be half written: it is looked at again, and the old content holds")
  func unsettled() throws {
    let temporary = try TemporaryDirectory()
    try temporary.write(yaml("a"), to: "a.yaml")
    var directory = WorkloadDirectory(path: temporary.path)
    var status = stat()
    _ = lstat("\(temporary.path)/a.yaml", &status)
    let written = Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
    #expect(directory.scan(now: written + 100_000_000).unsettled)
    #expect(!directory.isComplete)
    #expect(directory.names == [])
    #expect(!directory.scan(now: written + 201_000_000).unsettled)
    #expect(directory.names == ["a"])
  }

  @Test("a uid in two files belongs to the first by name, and the other is reported")
  func repeated() throws {
    let temporary = try TemporaryDirectory()
    try temporary.write("{name: w, namespace: shop, netns: /n/2}", to: "2.yaml")
    try temporary.write("{name: w, namespace: shop, netns: /n/1}", to: "1.yaml")
    var directory = WorkloadDirectory(path: temporary.path)
    let report = directory.scan(now: later)
    #expect(directory.workloads.map(\.location) == [.path("/n/1")])
    #expect(report.newProblems.map(\.code) == ["WORKLOAD_UID_REPEATED"])
    #expect(report.newProblems.first?.file.hasSuffix("2.yaml") == true)
  }

  @Test("a directory that is not there is no empty directory")
  func missing() throws {
    let temporary = try TemporaryDirectory()
    var directory = WorkloadDirectory(path: temporary.path + "/none")
    #expect(directory.scan(now: later).newProblems.map(\.code) == ["WORKLOAD_FILE_UNREADABLE"])
    #expect(!directory.isComplete)
  }

  @Test("a directory that goes away later changes nothing that runs")
  func vanished() throws {
    let temporary = try TemporaryDirectory()
    let inner = temporary.path + "/w"
    mkdir(inner, 0o755)
    try temporary.write(yaml("a"), to: "w/a.yaml")
    var directory = WorkloadDirectory(path: inner)
    _ = directory.scan(now: later)
    rename(inner, temporary.path + "/elsewhere")
    #expect(directory.scan(now: later).newProblems.count == 1)
    #expect(directory.names == ["a"])
  }

  @Test("a link to nothing is a file that cannot be read, not one that is gone")
  func danglingLink() throws {
    let temporary = try TemporaryDirectory()
    try temporary.write(yaml("a"), to: "target")
    symlink("target", temporary.path + "/a.yaml")
    var directory = WorkloadDirectory(path: temporary.path)
    _ = directory.scan(now: later)
    temporary.remove("target")
    #expect(directory.scan(now: later).newProblems.map(\.code) == ["WORKLOAD_FILE_UNREADABLE"])
    #expect(directory.names == ["a"])
  }

  @Test("what is no regular file is refused without waiting for it")
  func pipe() throws {
    let temporary = try TemporaryDirectory()
    mkfifo(temporary.path + "/a.yaml", 0o600)
    var directory = WorkloadDirectory(path: temporary.path)
    #expect(directory.scan(now: later).newProblems.map(\.code) == ["WORKLOAD_FILE_UNREADABLE"])
  }

  @Test("after a restart, a bad file still says what it said before")
  func rememberedContent() throws {
    let temporary = try TemporaryDirectory()
    let state = try TemporaryDirectory()
    let remembered = RememberedFiles(directory: state.path + "/deep/er")
    try temporary.write(yaml("a"), to: "a.yaml")
    var before = WorkloadDirectory(path: temporary.path, remembered: remembered)
    _ = before.scan(now: later)
    try temporary.write("workloads: [", to: "a.yaml")
    var after = WorkloadDirectory(path: temporary.path, remembered: remembered)
    _ = after.scan(now: later)
    #expect(after.names == ["a"])
  }

  @Test("what was removed while the agent was away is listed as out of the mesh, unless someone else has its namespace")
  func removedWhileAway() throws {
    let temporary = try TemporaryDirectory()
    let state = try TemporaryDirectory()
    let remembered = RememberedFiles(directory: state.path)
    try temporary.write(yaml("a", "b"), to: "a.yaml")
    var before = WorkloadDirectory(path: temporary.path, remembered: remembered)
    _ = before.scan(now: later)
    temporary.remove("a.yaml")
    try temporary.write("{name: c, namespace: shop, netns: /n/b}", to: "c.yaml")
    var after = WorkloadDirectory(path: temporary.path, remembered: remembered)
    _ = after.scan(now: later)
    #expect(after.names == ["-a", "c"])
    var third = WorkloadDirectory(path: temporary.path, remembered: remembered)
    _ = third.scan(now: later)
    #expect(third.names == ["c"])
  }
}

@Suite("Watching the directory")
struct DirectorySourceTests {
  /// Runs `change` once the source has reported, and returns the names of its last report once they are `wanted`.
  func watch(
    _ path: String, wanted: [String], rescan: Duration = .seconds(60), _ change: @escaping @Sendable () throws -> Void
  ) async throws -> [String] {
    try await onLoop { loop in
      var names: [String]?
      do {
        let source = DirectorySource(
          WorkloadDirectory(path: path), rescan: rescan, threads: BlockingThreads(limit: 1),
          logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }, on: loop
        ) { names = $0.map(\.info.name) }
        source.start()
        _ = await loop.waitUntil { names != nil }
        try change()
        _ = await loop.waitUntil { names == wanted }
        source.stop()
      } catch { return ["\(error)"] }
      return names ?? []
    }
  }

  @Test("an editor's rename over the old file is noticed")
  func atomicRename() async throws {
    let temporary = try TemporaryDirectory()
    try temporary.write(yaml("a"), to: "a.yaml")
    let names = try await watch(temporary.path, wanted: ["a", "b"]) {
      try temporary.write(yaml("a", "b"), to: ".a.yaml.swp")
      rename(temporary.path + "/.a.yaml.swp", temporary.path + "/a.yaml")
    }
    #expect(names == ["a", "b"])
  }

  @Test("a ConfigMap's swap of its data link is noticed")
  func linkSwap() async throws {
    let temporary = try TemporaryDirectory()
    for (version, text) in [("1", yaml("a")), ("2", yaml("b"))] {
      mkdir("\(temporary.path)/..\(version)", 0o755)
      try temporary.write(text, to: "..\(version)/w.yaml")
    }
    symlink("..1", temporary.path + "/..data")
    symlink("..data/w.yaml", temporary.path + "/w.yaml")
    let names = try await watch(temporary.path, wanted: ["b"]) {
      symlink("..2", temporary.path + "/..new")
      rename(temporary.path + "/..new", temporary.path + "/..data")
    }
    #expect(names == ["b"])
  }

  @Test("a removed file is noticed")
  func removal() async throws {
    let temporary = try TemporaryDirectory()
    try temporary.write(yaml("a"), to: "a.yaml")
    try temporary.write(yaml("b"), to: "b.yaml")
    let names = try await watch(temporary.path, wanted: ["a"]) { temporary.remove("b.yaml") }
    #expect(names == ["a"])
  }

  @Test("a directory put in the place of the old one is noticed, if not by an event then by the next look")
  func replacedDirectory() async throws {
    let temporary = try TemporaryDirectory()
    for name in ["now", "next"] { mkdir("\(temporary.path)/\(name)", 0o755) }
    try temporary.write(yaml("a"), to: "now/a.yaml")
    try temporary.write(yaml("b"), to: "next/b.yaml")
    let names = try await watch(temporary.path + "/now", wanted: ["b"], rescan: .milliseconds(50)) {
      rename(temporary.path + "/now", temporary.path + "/old")
      rename(temporary.path + "/next", temporary.path + "/now")
    }
    #expect(names == ["b"])
  }
}
