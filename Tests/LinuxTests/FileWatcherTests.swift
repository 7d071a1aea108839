import CLinux
import Foundation
import Synchronization
import TestSupport
import Testing

@testable import Linux

/// A directory that goes with the test.
private final class Scratch: Sendable {
  let path: String

  init() throws {
    path = NSTemporaryDirectory() + "watch-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  subscript(_ name: String) -> String { path + "/" + name }

  func write(_ text: String, to name: String) throws {
    try Data(text.utf8).write(to: URL(fileURLWithPath: self[name]))
  }

  /// Gives `name` to `other`, over what had the name before.
  func rename(_ name: String, to other: String) throws {
    try system("rename") { Glibc.rename(self[name], self[other]) }
  }

  func link(_ target: String, as name: String) throws {
    try FileManager.default.createSymbolicLink(atPath: self[name], withDestinationPath: target)
  }
}

/// Whether a condition comes true, waiting without holding a thread that the code under test may need.
private func soon(_ condition: () async throws -> Bool) async throws -> Bool {
  try await eventually(within: .seconds(15), condition)
}

/// Counts from a loop's thread, and is read by a test.
private final class Counter: Sendable {
  private let count = Atomic<Int>(0)
  func add() { count.wrappingAdd(1, ordering: .relaxed) }
  var value: Int { count.load(ordering: .relaxed) }
}

@Suite("File watcher", .timeLimit(.minutes(1)))
struct FileWatcherTests {
  /// Runs `body` while a file `watched` in a new directory is watched, with the count of changes told.
  private func watching(
    period: Duration = .seconds(60), prepare: (Scratch) throws -> Void = { try $0.write("one", to: "watched") },
    _ body: (Scratch, Counter) async throws -> Void
  ) async throws {
    let scratch = try Scratch()
    try prepare(scratch)
    let counter = Counter()
    let path = scratch["watched"]
    try await withLoop { loop in
      let holder = Holder()
      let signature = FileSignature(path: path)
      await loop.run {
        holder.watcher = FileWatcher(path, known: signature, period: period, on: loop) { counter.add() }
        holder.watcher?.start()
      }
      try await body(scratch, counter)
      await loop.run { holder.watcher = nil }
    }
  }

  /// Keeps a watcher; used on the loop's thread only.
  private final class Holder: @unchecked Sendable {
    var watcher: FileWatcher?
  }

  @Test("a file written in place is noticed")
  func writtenInPlace() async throws {
    try await watching { scratch, counter in
      let handle = try #require(FileHandle(forWritingAtPath: scratch["watched"]))
      try handle.write(contentsOf: Data("two".utf8))
      try handle.close()
      #expect(try await soon { counter.value == 1 })
    }
  }

  @Test("a file replaced by rename is noticed")
  func renamed() async throws {
    try await watching { scratch, counter in
      try scratch.write("two", to: "other")
      try scratch.rename("other", to: "watched")
      #expect(try await soon { counter.value == 1 })
    }
  }

  @Test("links swapped as in a ConfigMap volume are noticed")
  func swapped() async throws {
    let prepare = { (scratch: Scratch) in
      for (directory, text) in [("..1", "one"), ("..2", "two")] {
        try FileManager.default.createDirectory(atPath: scratch[directory], withIntermediateDirectories: false)
        try scratch.write(text, to: directory + "/watched")
      }
      try scratch.link("..1", as: "..data")
      try scratch.link("..data/watched", as: "watched")
    }
    try await watching(prepare: prepare) { scratch, counter in
      try scratch.link("..2", as: "..data_tmp")
      try scratch.rename("..data_tmp", to: "..data")
      #expect(try await soon { counter.value == 1 })
    }
  }

  @Test("other files of the directory are not reported")
  func others() async throws {
    try await watching { scratch, counter in
      try scratch.write("x", to: "neighbour")
      try await Task.sleep(for: .milliseconds(400))
      #expect(counter.value == 0)
    }
  }

  @Test("a burst of changes is one change")
  func burst() async throws {
    try await watching { scratch, counter in
      for number in 0..<20 {
        try scratch.write("\(number)", to: "other")
        try scratch.rename("other", to: "watched")
      }
      #expect(try await soon { counter.value == 1 })
      try await Task.sleep(for: .milliseconds(300))
      #expect(counter.value == 1)
    }
  }

  @Test("removal and return are noticed")
  func removedAndBack() async throws {
    try await watching { scratch, counter in
      try FileManager.default.removeItem(atPath: scratch["watched"])
      #expect(try await soon { counter.value == 1 })
      try scratch.write("two", to: "other")
      try scratch.rename("other", to: "watched")
      #expect(try await soon { counter.value == 2 })
    }
  }

  @Test("a change that no event tells of is noticed by the periodic look")
  func withoutEvents() async throws {
    let prepare = { (scratch: Scratch) in
      try FileManager.default.createDirectory(atPath: scratch["far"], withIntermediateDirectories: false)
      try scratch.write("one", to: "far/target")
      try scratch.link("far/target", as: "watched")
    }
    try await watching(period: .milliseconds(100), prepare: prepare) { scratch, counter in
      try scratch.write("two and more", to: "far/target")
      #expect(try await soon { counter.value >= 1 })
    }
  }

  @Test("a link to the directory that is swapped is followed, at the latest by the periodic look")
  func directoryLinkSwapped() async throws {
    let scratch = try Scratch()
    for directory in ["d1", "d2"] {
      try FileManager.default.createDirectory(atPath: scratch[directory], withIntermediateDirectories: false)
      try scratch.write(directory, to: directory + "/watched")
    }
    try scratch.link("d1", as: "d")
    let path = scratch["d/watched"]
    let counter = Counter()
    let holder = Holder()
    try await withLoop { loop in
      await loop.run {
        holder.watcher = FileWatcher(path, known: FileSignature(path: path), period: .seconds(3), on: loop) {
          counter.add()
        }
        holder.watcher?.start()
      }
      try scratch.link("d2", as: "new")
      try scratch.rename("new", to: "d")
      #expect(try await soon { counter.value == 1 })
      // Sooner than the next periodic look: the watch is on the new directory.
      try scratch.write("changed", to: "d2/watched")
      #expect(try await eventually(within: .milliseconds(2500)) { () async throws -> Bool in counter.value == 2 })
      await loop.run { holder.watcher = nil }
    }
  }

  @Test("a directory that is replaced is watched again")
  func directoryReplaced() async throws {
    let scratch = try Scratch()
    let counter = Counter()
    let holder = Holder()
    try FileManager.default.createDirectory(atPath: scratch["d"], withIntermediateDirectories: false)
    try scratch.write("one", to: "d/watched")
    let path = scratch["d/watched"]
    try await withLoop { loop in
      await loop.run {
        holder.watcher = FileWatcher(path, known: FileSignature(path: path), period: .milliseconds(200), on: loop) {
          counter.add()
        }
        holder.watcher?.start()
      }
      try FileManager.default.removeItem(atPath: scratch["d"])
      #expect(try await soon { counter.value >= 1 })
      try FileManager.default.createDirectory(atPath: scratch["d"], withIntermediateDirectories: false)
      try scratch.write("two", to: "d/watched")
      let before = counter.value
      #expect(try await soon { counter.value > before })
      #expect(try await soon { await loop.run { holder.watcher?.trouble == nil } })
      await loop.run { holder.watcher = nil }
    }
  }

  @Test("what changed between reading and watching is told at the start")
  func staleStart() async throws {
    let scratch = try Scratch()
    try scratch.write("one", to: "watched")
    let path = scratch["watched"]
    let old = FileSignature(path: path)
    try scratch.write("longer", to: "watched")
    let counter = Counter()
    try await withLoop { loop in
      await loop.run {
        let watcher = FileWatcher(path, known: old, on: loop) { counter.add() }
        watcher.start()
        watcher.cancel()
      }
    }
    #expect(counter.value == 1)
  }

  @Test("a directory that cannot be watched is told as trouble, and the file is still looked at")
  func noDirectory() async throws {
    let scratch = try Scratch()
    let path = scratch["missing/watched"]
    let counter = Counter()
    let holder = Holder()
    try await withLoop { loop in
      await loop.run {
        holder.watcher = FileWatcher(path, known: nil, period: .milliseconds(50), on: loop) { counter.add() }
        holder.watcher?.start()
      }
      #expect(await loop.run { holder.watcher?.trouble?.number } == ENOENT)
      try FileManager.default.createDirectory(atPath: scratch["missing"], withIntermediateDirectories: false)
      try scratch.write("one", to: "missing/watched")
      #expect(try await soon { counter.value >= 1 })
      await loop.run { holder.watcher = nil }
    }
  }

  @Test("a watcher that was cancelled tells nothing")
  func cancelled() async throws {
    let scratch = try Scratch()
    try scratch.write("one", to: "watched")
    let path = scratch["watched"]
    let counter = Counter()
    let holder = Holder()
    try await withLoop { loop in
      await loop.run {
        holder.watcher = FileWatcher(
          path, known: FileSignature(path: path), period: .milliseconds(50), on: loop
        ) { counter.add() }
        holder.watcher?.start()
        holder.watcher?.cancel()
        holder.watcher?.cancel()
      }
      try scratch.write("two!", to: "watched")
      try await Task.sleep(for: .milliseconds(400))
      await loop.run { holder.watcher = nil }
    }
    #expect(counter.value == 0)
  }
}

@Suite("Directory events")
struct DirectoryEventTests {
  private func bytes(mask: CInt, name: String, claimedLength: UInt32? = nil) -> [UInt8] {
    var padded = Array(name.utf8)
    while !name.isEmpty, padded.count % 16 != 0 { padded.append(0) }
    var header = inotify_event()
    header.mask = UInt32(bitPattern: mask)
    header.len = claimedLength ?? UInt32(padded.count)
    return withUnsafeBytes(of: header) { Array($0.prefix(16)) } + padded
  }

  private func parse(_ bytes: [UInt8]) -> [DirectoryEvent] {
    bytes.withUnsafeBytes { DirectoryWatcher.parse($0) }
  }

  @Test(
    "every kind of event is known by its mask",
    arguments: [
      (IN_CREATE, DirectoryEvent.Kind.created), (IN_MODIFY, .modified), (IN_CLOSE_WRITE, .written),
      (IN_MOVED_TO, .movedIn), (IN_MOVED_FROM, .removed), (IN_DELETE, .removed), (IN_ATTRIB, .attributes),
    ])
  func kinds(_ mask: CInt, _ kind: DirectoryEvent.Kind) {
    #expect(parse(bytes(mask: mask, name: "pod.yaml")) == [DirectoryEvent(kind, name: "pod.yaml")])
  }

  @Test("the directory's own end and a full queue have no name")
  func ownEvents() {
    #expect(
      parse(bytes(mask: IN_DELETE_SELF, name: "") + bytes(mask: IN_Q_OVERFLOW, name: ""))
        == [DirectoryEvent(.directoryGone), DirectoryEvent(.overflow)])
  }

  @Test("an event that claims a longer name than there are bytes ends the parsing")
  func truncated() {
    let good = bytes(mask: IN_CREATE, name: "a")
    #expect(parse(good + bytes(mask: IN_CREATE, name: "b", claimedLength: 4096)) == [.init(.created, name: "a")])
    #expect(parse(Array(good.prefix(15))) == [])
    #expect(parse(good + bytes(mask: IN_CREATE, name: "b", claimedLength: .max)) == [.init(.created, name: "a")])
  }

  @Test("a file in place of the directory is refused")
  func notADirectory() async throws {
    let number = try await withLoop { loop in
      await loop.run { () -> CInt? in
        do throws(SystemError) {
          _ = try DirectoryWatcher("/etc/passwd", on: loop) { _ in }
          return nil
        } catch {
          return error.number
        }
      }
    }
    #expect(number == ENOTDIR)
  }
}
