import Foundation
import IstioAPI
import Logging
import TLS
import Testing
import XDS

@testable import Ztunnel

/// A directory with a key, gone with this object.
private final class SnapshotDirectory {
  let path = "/tmp/snapshot-" + UUID().uuidString.prefix(8)
  var key: String { path + "/key" }

  init() throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
    try Data(repeating: 9, count: 32).write(to: URL(fileURLWithPath: key))
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func vault() throws -> SnapshotVault {
    try SnapshotVault(
      SnapshotConfiguration(
        directory: path + "/kept", keyPath: key, maximumAge: .seconds(60), keepsCertificates: true))
  }

  var file: String { path + "/kept/mesh.sealed" }
  func bytes() throws -> [UInt8] { Array(try Data(contentsOf: URL(fileURLWithPath: file))) }
  func write(_ bytes: [UInt8]) throws { try Data(bytes).write(to: URL(fileURLWithPath: file)) }
  var isKept: Bool { FileManager.default.fileExists(atPath: file) }
}

extension MeshJournal {
  /// A response of one portion.
  fileprivate func append(_ response: RetainedPortion) {
    retain(response)
    commit()
    tidy()
  }
}

@Suite("Snapshots")
struct SnapshotTests {
  private let directory: SnapshotDirectory
  private let addresses = "type.googleapis.com/istio.workload.Address"
  private let policies = "type.googleapis.com/istio.security.Authorization"
  init() throws { directory = try SnapshotDirectory() }

  private func journal(
    at seconds: Int64 = 1000, monotonic: @escaping () -> ContinuousClock.Instant = { .now }
  ) throws -> MeshJournal {
    MeshJournal(
      try directory.vault(), logger: Logger(label: "test"), now: { Timestamp(secondsSinceEpoch: seconds) },
      monotonic: monotonic)
  }

  private func response(
    _ url: String, _ resources: [String: String] = [:], removed: [String] = []
  ) throws -> RetainedPortion {
    let kept = try resources.sorted { $0.key < $1.key }.map { name, content in
      let resource = Envoy_Service_Discovery_V3_Resource.with {
        $0.name = name
        $0.resource.value = Data(content.utf8)
      }
      return RetainedPortion.Entry(name: name, resource: try resource.serializedBytes())
    }
    return RetainedPortion(typeURL: url, entries: kept + removed.map { .init(name: $0, resource: nil) })
  }

  /// What a start would find, by name.
  private func restored(at seconds: Int64 = 1000) throws -> [String: String]? {
    var contents: [String: String] = [:]
    let age = try journal(at: seconds).restore(limit: .seconds(60)) { bytes throws(ResourceRejection) in
      guard let response = try? Envoy_Service_Discovery_V3_DeltaDiscoveryResponse(serializedBytes: bytes) else {
        throw .undecodable
      }
      for resource in response.resources {
        contents[resource.name] = String(decoding: resource.resource.value, as: UTF8.self)
      }
      for name in response.removedResources { contents[name] = nil }
    }
    return age == nil ? nil : contents
  }

  @Test("keeps nothing before everything was received once: a mesh without its policies would be open")
  func complete() throws {
    let journal = try journal()
    try journal.append(response(addresses, ["w": "1"]))
    #expect(!directory.isKept)
    #expect(try restored() == nil)
    try journal.append(response(policies, ["p": "deny"]))
    journal.complete()
    #expect(try restored() == ["w": "1", "p": "deny"])
  }

  @Test("each change is there when the call returns, and costs what it is")
  func changes() throws {
    let journal = try journal()
    try journal.append(response(addresses, Dictionary(uniqueKeysWithValues: (0..<500).map { ("w\($0)", "content") })))
    journal.complete()
    let size = try directory.bytes().count
    try journal.append(response(policies, ["p": "1", "q": "1"]))
    #expect(try restored()?["p"] == "1")
    try journal.append(response(policies, ["p": "2"], removed: ["q"]))
    let kept = try #require(try restored())
    #expect(kept["p"] == "2" && kept["q"] == nil && kept["w499"] == "content")
    #expect(try directory.bytes().count < size + 1000)
    let before = try directory.bytes().count
    try journal.append(response(policies, ["p": "2"], removed: ["unknown"]))
    #expect(try directory.bytes().count == before, "what is known already is not written again")
  }

  @Test("a response in portions is written when it is whole, as one record with each name's last word")
  func portions() throws {
    let journal = try journal()
    try journal.append(response(policies, ["gone": "1", "stays": "1"]))
    journal.complete()
    let before = try directory.bytes()
    try journal.retain(response(policies, ["p": "1", "q": "1"]))
    try journal.retain(response(policies, ["p": "2"], removed: ["gone", "q"]))
    journal.confirm()
    #expect(try directory.bytes() == before, "half a response could open what is denied")
    journal.commit()
    #expect(try restored() == ["p": "2", "stays": "1"])
    let after = try directory.bytes()
    // The length of the one record stands before it.
    let length = after[before.count..<before.count + 4].reduce(0) { $0 << 8 | Int($1) }
    #expect(after.count == before.count + 4 + length)
    journal.commit()
    #expect(try directory.bytes() == after, "nothing is left to write")
  }

  @Test("is written anew when it has grown, with nothing lost")
  func compaction() throws {
    let journal = try journal()
    journal.complete()
    let content = String(repeating: "x", count: 100_000)
    for number in 0..<40 { try journal.append(response(addresses, ["w": "\(number)" + content])) }
    #expect(try directory.bytes().count < 2_000_000)
    #expect(try restored()?["w"] == "39" + content)
  }

  @Test("a file whose last record was not written to its end is refused: it may be the one that denies")
  func torn() throws {
    let journal = try journal()
    try journal.append(response(addresses, ["w": "1"]))
    journal.complete()
    let whole = try directory.bytes()
    try journal.append(response(addresses, ["w": "2"]))
    let longer = try directory.bytes()
    for count in [whole.count + 1, whole.count + 20, longer.count - 1] {
      try directory.write(Array(longer.prefix(count)))
      let error = #expect(throws: SnapshotError.self) { try restored() }
      #expect(error?.code == "SNAPSHOT_MALFORMED")
      #expect(!directory.isKept)
    }
  }

  @Test("a file in which any byte was changed is refused as a whole, and removed")
  func tampered() throws {
    let journal = try journal()
    try journal.append(response(policies, ["p": "deny"]))
    journal.complete()
    try journal.append(response(policies, ["q": "deny"]))
    let bytes = try directory.bytes()
    for index in stride(from: 0, to: bytes.count, by: 7) {
      var changed = bytes
      changed[index] ^= 0x40
      try directory.write(changed)
      #expect(throws: SnapshotError.self, "at byte \(index)") { try restored() }
    }
    try directory.write(Array("something else".utf8))
    let error = #expect(throws: SnapshotError.self) { try restored() }
    #expect(error?.code == "SNAPSHOT_FOREIGN")
    #expect(!directory.isKept)
  }

  @Test("another key opens nothing")
  func otherKey() throws {
    let journal = try journal()
    journal.complete()
    try journal.append(response(policies, ["p": "deny"]))
    try Data(repeating: 8, count: 32).write(to: URL(fileURLWithPath: directory.key))
    let error = #expect(throws: SnapshotError.self) { try restored() }
    #expect(error?.code == "SNAPSHOT_SEAL_BROKEN")
  }

  @Test("one that was confirmed too long ago is not used; a confirmation keeps it young")
  func age() throws {
    let journal = try journal(at: 1000)
    try journal.append(response(policies, ["p": "deny"]))
    journal.complete()
    #expect(try restored(at: 1060) != nil)
    #expect(throws: SnapshotError.self) { try restored(at: 1061) }
    #expect(!directory.isKept)
    let later = try self.journal(at: 2000)
    try later.append(response(policies, ["p": "deny"]))
    later.complete()
    let restarted = try self.journal(at: 2050)
    _ = try restarted.restore(limit: .seconds(60)) { _ in }
    restarted.confirm()
    #expect(try restored(at: 2100) == ["p": "deny"])
  }

  @Test("half a response, as a crash may leave it, is left out, and does not come back with what is written next")
  func halfResponse() throws {
    let journal = try journal()
    try journal.append(response(addresses, ["w": "1", "v": "1"]))
    journal.complete()
    let big = String(repeating: "x", count: 300_000)
    try journal.retain(response(addresses, ["w": big], removed: ["v"]))
    try journal.retain(response(addresses, ["u": big]))
    #expect(try directory.bytes().count > 600_000, "a large response is not gathered in memory")
    #expect(try restored() == ["w": "1", "v": "1"])
    let restarted = try self.journal()
    _ = try restarted.restore(limit: .seconds(60)) { _ in }
    try restarted.append(response(addresses, ["t": "1"]))
    #expect(try restored() == ["w": "1", "v": "1", "t": "1"])
    #expect(try directory.bytes().count < 10_000)
  }

  @Test("a whole response of many records is all there")
  func manyRecords() throws {
    let journal = try journal()
    let content = String(repeating: "x", count: 1000)
    for start in stride(from: 0, to: 2000, by: 50) {
      let names = (start..<start + 50).map { "w\($0)" }
      try journal.retain(response(addresses, Dictionary(uniqueKeysWithValues: names.map { ($0, content + $0) })))
    }
    journal.commit()
    journal.complete()
    let kept = try #require(try restored())
    #expect(kept.count == 2000 && kept.allSatisfy { $1 == content + $0 })
  }

  @Test("a file that cannot be kept up is removed: it must not be taken for the truth")
  func unwritable() throws {
    var time = ContinuousClock.now
    let first = try journal()
    try first.append(response(policies, ["p": "deny", "q": "deny"]))
    first.complete()
    let journal = try journal(monotonic: { time })
    _ = try journal.restore(limit: .seconds(60)) { _ in }
    // A directory in the way of the file that takes the place of the old one.
    try FileManager.default.createDirectory(atPath: directory.file + ".new/x", withIntermediateDirectories: true)
    try journal.append(response(addresses, ["w": "1"]))
    #expect(!directory.isKept)
    try journal.append(response(policies, removed: ["q"]))
    try FileManager.default.removeItem(atPath: directory.file + ".new")
    try journal.append(response(addresses, ["u": "1"]))
    #expect(!directory.isKept, "not with each change: the whole file would be written each time")
    time += FileBackoff.first
    try journal.append(response(addresses, ["t": "1"]))
    #expect(try restored() == ["p": "deny", "w": "1", "u": "1", "t": "1"], "it is tried again a while later")
  }

  @Test("a file for whose successor there is no room grows on")
  func noRoomForTheNext() throws {
    let journal = try journal()
    journal.complete()
    try FileManager.default.createDirectory(atPath: directory.file + ".new/x", withIntermediateDirectories: true)
    let content = String(repeating: "x", count: 100_000)
    for number in 0..<40 { try journal.append(response(addresses, ["w": "\(number)" + content])) }
    #expect(try directory.bytes().count > 4_000_000)
    try FileManager.default.removeItem(atPath: directory.file + ".new")
    for number in 40..<80 { try journal.append(response(addresses, ["w": "\(number)" + content])) }
    #expect(try directory.bytes().count < 4_000_000)
    #expect(try restored() == ["w": "79" + content])
  }

  @Test("what was changed under its hands is not copied: there is no file until the next start")
  func changedUnderneath() throws {
    let journal = try journal()
    try journal.append(response(policies, ["p": "deny"]))
    journal.complete()
    let file = try FileHandle(forWritingTo: URL(fileURLWithPath: directory.file))
    try file.seek(toOffset: 80)
    try file.write(contentsOf: Data([0xff, 0xff, 0xff, 0xff]))
    let content = String(repeating: "x", count: 600_000)
    for number in 0..<4 { try journal.append(response(addresses, ["w": "\(number)" + content])) }
    #expect(!directory.isKept)
    try journal.append(response(policies, ["q": "deny"]))
    journal.confirm()
    #expect(!directory.isKept)
  }

  @Test("the file of another process is neither replaced by half of one nor removed")
  func successor() throws {
    let (leaving, coming) = (try journal(), try journal())
    try leaving.append(response(policies, ["p": "1"]))
    try coming.append(response(policies, ["p": "2"]))
    leaving.complete()
    #expect(!directory.isKept, "what lies there is not its own")
    coming.complete()
    try leaving.append(response(policies, ["p": "3"]))
    #expect(try restored() == ["p": "2"])
  }

  @Test("of two processes that follow the mesh the one that serves has the file, whoever has put it there last")
  func twoProcesses() throws {
    let (older, newer) = (try journal(), try journal())
    for journal in [older, newer] {
      try journal.append(response(policies, ["p": "1"]))
      journal.complete()
    }
    older.rest(true)
    try newer.append(response(policies, ["p": "2"]))
    try older.append(response(policies, ["p": "2", "q": "2"]))
    older.tidy()
    #expect(try restored() == ["p": "2"])
    // The newer one is gone.
    older.rest(false)
    try older.append(response(policies, ["r": "3"]))
    #expect(try restored() == ["p": "2", "q": "2", "r": "3"])
    try older.append(response(policies, ["r": "4"]))
    #expect(try restored() == ["p": "2", "q": "2", "r": "4"])
  }

  @Test("nothing is added to a file in whose place another process has put its own")
  func displaced() throws {
    let (older, newer) = (try journal(), try journal())
    for journal in [newer, older] {
      try journal.append(response(policies, ["p": "1"]))
      journal.complete()
    }
    try newer.append(response(policies, ["deny": "2"]))
    #expect(try restored() == ["p": "1", "deny": "2"])
  }

  @Test("a response is settled when it is on the disk, and nobody's loop waits for that")
  func keeper() async throws {
    let vault = try directory.vault()
    let keeper = JournalKeeper(
      MeshJournal(vault, logger: Logger(label: "test"), now: { Timestamp(secondsSinceEpoch: 1000) }),
      thread: vault.thread)
    let (begin, end) = (DispatchSemaphore(value: 0), DispatchSemaphore(value: 0))
    let disk: @Sendable () -> Void = {
      begin.signal()
      end.wait()
    }
    vault.thread.submit(disk, orRefuse: {})
    begin.wait()
    keeper.retain(try response(policies, ["p": "deny"]))
    keeper.commit()
    keeper.complete()
    await keeper.settle(leaving: 3)
    #expect(!directory.isKept && !vault.thread.drain(within: .zero))
    end.signal()
    await keeper.settle(leaving: 0)
    #expect(try restored() == ["p": "deny"])
    #expect(vault.thread.drain(within: .seconds(10)))
  }

  @Test("pauses after failures double up to five minutes")
  func backoff() {
    var backoff = FileBackoff()
    let pauses = (0..<11).map { _ in backoff.fail() }
    #expect(pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300].map { .seconds($0) })
  }

  @Test("nobody else can read what is kept")
  func permissions() throws {
    let journal = try journal()
    try journal.append(response(policies, ["p": "a secret word"]))
    journal.complete()
    let attributes = try FileManager.default.attributesOfItem(atPath: directory.file)
    #expect((attributes[.posixPermissions] as? NSNumber)?.intValue == 0o600)
    #expect(try Data(directory.bytes()).range(of: Data("a secret word".utf8)) == nil)
  }

  @Test("a key that is missing or short stops the start")
  func key() throws {
    try Data([1, 2, 3]).write(to: URL(fileURLWithPath: directory.key))
    #expect(throws: SnapshotError.keyTooShort(path: directory.key, bytes: 3, least: 32)) { try directory.vault() }
    try FileManager.default.removeItem(atPath: directory.key)
    #expect(throws: SnapshotError.self) { try directory.vault() }
  }
}
