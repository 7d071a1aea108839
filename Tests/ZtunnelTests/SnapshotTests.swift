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
  fileprivate func append(_ response: Response) {
    retain(response)
    commit()
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

  private func response(_ url: String, _ resources: [String: String] = [:], removed: [String] = [])
    -> MeshJournal.Response
  {
    var response = MeshJournal.Response()
    response.typeURL = url
    response.removedResources = removed
    response.resources = resources.sorted { $0.key < $1.key }.map { name, content in
      var resource = Envoy_Service_Discovery_V3_Resource()
      resource.name = name
      resource.resource.value = Data(content.utf8)
      return resource
    }
    return response
  }

  /// What a start would find, by name.
  private func restored(at seconds: Int64 = 1000) throws -> [String: String]? {
    guard let kept = try journal(at: seconds).restore(limit: .seconds(60)) else { return nil }
    var contents: [String: String] = [:]
    for response in kept.responses {
      for resource in response.resources {
        contents[resource.name] = String(decoding: resource.resource.value, as: UTF8.self)
      }
      for name in response.removedResources { contents[name] = nil }
    }
    return contents
  }

  @Test("keeps nothing before everything was received once: a mesh without its policies would be open")
  func complete() throws {
    let journal = try journal()
    journal.append(response(addresses, ["w": "1"]))
    #expect(!directory.isKept)
    #expect(try restored() == nil)
    journal.append(response(policies, ["p": "deny"]))
    journal.complete()
    #expect(try restored() == ["w": "1", "p": "deny"])
  }

  @Test("each change is there when the call returns, and costs what it is")
  func changes() throws {
    let journal = try journal()
    journal.append(response(addresses, Dictionary(uniqueKeysWithValues: (0..<500).map { ("w\($0)", "content") })))
    journal.complete()
    let size = try directory.bytes().count
    journal.append(response(policies, ["p": "1", "q": "1"]))
    #expect(try restored()?["p"] == "1")
    journal.append(response(policies, ["p": "2"], removed: ["q"]))
    let kept = try #require(try restored())
    #expect(kept["p"] == "2" && kept["q"] == nil && kept["w499"] == "content")
    #expect(try directory.bytes().count < size + 1000)
    let before = try directory.bytes().count
    journal.append(response(policies, ["p": "2"], removed: ["unknown"]))
    #expect(try directory.bytes().count == before, "what is known already is not written again")
  }

  @Test("a response in portions is written when it is whole, as one record with each name's last word")
  func portions() throws {
    let journal = try journal()
    journal.append(response(policies, ["gone": "1", "stays": "1"]))
    journal.complete()
    let before = try directory.bytes()
    journal.retain(response(policies, ["p": "1", "q": "1"]))
    journal.retain(response(policies, ["p": "2"], removed: ["gone", "q"]))
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
    for number in 0..<40 { journal.append(response(addresses, ["w": "\(number)" + content])) }
    #expect(try directory.bytes().count < 2_000_000)
    #expect(try restored()?["w"] == "39" + content)
  }

  @Test("a file whose last record was not written to its end is refused: it may be the one that denies")
  func torn() throws {
    let journal = try journal()
    journal.append(response(addresses, ["w": "1"]))
    journal.complete()
    let whole = try directory.bytes()
    journal.append(response(addresses, ["w": "2"]))
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
    journal.append(response(policies, ["p": "deny"]))
    journal.complete()
    journal.append(response(policies, ["q": "deny"]))
    let bytes = try directory.bytes()
    for index in stride(from: 0, to: bytes.count, by: 7) {
      var changed = bytes
      changed[index] ^= 0x40
      try directory.write(changed)
      #expect(throws: SnapshotError.self, "at byte \(index)") { try restored() }
    }
    try directory.write(Array("something else".utf8))
    let error = #expect(throws: SnapshotError.self) { try self.journal().restore(limit: .seconds(60)) }
    #expect(error?.code == "SNAPSHOT_FOREIGN")
    #expect(!directory.isKept)
  }

  @Test("another key opens nothing")
  func otherKey() throws {
    let journal = try journal()
    journal.complete()
    journal.append(response(policies, ["p": "deny"]))
    try Data(repeating: 8, count: 32).write(to: URL(fileURLWithPath: directory.key))
    let error = #expect(throws: SnapshotError.self) { try self.journal().restore(limit: .seconds(60)) }
    #expect(error?.code == "SNAPSHOT_SEAL_BROKEN")
  }

  @Test("one that was confirmed too long ago is not used; a confirmation keeps it young")
  func age() throws {
    let journal = try journal(at: 1000)
    journal.append(response(policies, ["p": "deny"]))
    journal.complete()
    #expect(try restored(at: 1060) != nil)
    #expect(throws: SnapshotError.self) { try restored(at: 1061) }
    #expect(!directory.isKept)
    let later = try self.journal(at: 2000)
    later.append(response(policies, ["p": "deny"]))
    later.complete()
    let restarted = try self.journal(at: 2050)
    _ = try restarted.restore(limit: .seconds(60))
    restarted.confirm()
    #expect(try restored(at: 2100) == ["p": "deny"])
  }

  @Test("a file that cannot be kept up is removed: it must not be taken for the truth")
  func unwritable() throws {
    var time = ContinuousClock.now
    let journal = try journal(monotonic: { time })
    journal.append(response(policies, ["p": "deny"]))
    journal.complete()
    #expect(directory.isKept)
    // A directory in the way of the file that takes the place of the old one.
    try FileManager.default.createDirectory(atPath: directory.file + ".new/x", withIntermediateDirectories: true)
    let big = String(repeating: "x", count: 2 << 20)
    journal.append(response(addresses, ["w": big]))
    journal.append(response(addresses, ["v": big]))
    #expect(!directory.isKept)
    try FileManager.default.removeItem(atPath: directory.file + ".new")
    journal.append(response(addresses, ["u": "1"]))
    #expect(!directory.isKept, "not with each change: the whole file would be written each time")
    time += FileBackoff.first
    journal.append(response(addresses, ["t": "1"]))
    #expect(try restored()?.keys.sorted() == ["p", "t", "u", "v", "w"], "it is tried again a while later")
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
    journal.append(response(policies, ["p": "a secret word"]))
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
