import Glibc
import IstioAPI
import Linux
import Logging
import TLS
import XDS

/// Keeps what the control plane says in a sealed file: each answer is a record, written before it is acknowledged, so that
/// a restart never knows less than the control plane believes it knows. What it takes to write is what changed; the file is
/// written anew when it has grown to twice its size.
///
/// There is a file only while it is complete: it begins when each type was received once, and goes where it cannot be
/// kept up. A part of the mesh without its policies would open what is denied. Belongs to the control plane's loop.
final class MeshJournal: ResponseKeeper {
  typealias Response = RetainedResponse
  private let vault: SnapshotVault
  private let logger: Logger
  private let now: () -> Timestamp
  private let monotonic: () -> ContinuousClock.Instant
  /// Everything retained, by type and name, as a resource's bytes: a message takes several times as much memory.
  private var resources: [String: [String: [UInt8]]] = [:]
  /// Names of what has changed since the last record, by type.
  private var unwritten: [String: Set<String>] = [:]
  private var isComplete = false
  private var file: SharedDescriptor?
  private var sealed: SealedFile?
  private var size = 0
  private var baseSize = 0
  private var backoff = FileBackoff()
  /// After a failure: when it is tried again, at the earliest.
  private var nextAttempt: ContinuousClock.Instant?

  private var path: String { vault.path(.mesh) }

  /// More than this over twice its size makes a file be written anew.
  private static let slack = 1 << 20

  init(
    _ vault: SnapshotVault, logger: Logger, now: @escaping () -> Timestamp = { .now },
    monotonic: @escaping () -> ContinuousClock.Instant = { .now }
  ) {
    self.vault = vault
    self.logger = logger
    self.now = now
    self.monotonic = monotonic
  }

  deinit { closeFile() }

  /// What was kept before this process started, with the seconds since the control plane confirmed it; nil where nothing
  /// was. Whatever cannot be used is removed. Throws ``SnapshotError``.
  func restore(limit: Duration) throws(SnapshotError) -> (responses: [Response], age: Int64)? {
    do throws(SnapshotError) {
      guard let records = try vault.records(.mesh) else { return nil }
      var confirmed = Timestamp(secondsSinceEpoch: 0)
      for record in records {
        guard let (time, response) = Self.read(record) else { throw .malformed(path: path) }
        confirmed = max(confirmed, time)
        retain(response)
      }
      guard !records.isEmpty else { throw .malformed(path: path) }
      let age = max(0, now().seconds(since: confirmed))
      guard age <= limit.components.seconds else {
        throw .tooOld(path: path, seconds: age, limit: limit.components.seconds)
      }
      isComplete = true
      return (responses, age)
    } catch {
      _ = refuse()
      throw error
    }
  }

  /// Forgets what was restored and removes the file: nothing can be made of it. Returns the error that says so.
  func refuse() -> SnapshotError {
    resources = [:]
    isComplete = false
    discard()
    return .malformed(path: path)
  }

  // MARK: What the control plane says

  /// Takes what is known from a portion of a response. What is known already, as policies are that come again with every
  /// stream, is not written again.
  func retain(_ portion: Response) {
    let url = portion.typeURL
    var changed: [String] = []
    for resource in portion.resources {
      // Fails only for text that is not UTF-8, which a string cannot hold.
      guard let bytes: [UInt8] = try? resource.serializedBytes(), resources[url]?[resource.name] != bytes else {
        continue
      }
      resources[url, default: [:]][resource.name] = bytes
      changed.append(resource.name)
    }
    for name in portion.removedResources where resources[url]?.removeValue(forKey: name) != nil {
      changed.append(name)
    }
    if isComplete, !changed.isEmpty { unwritten[url, default: []].formUnion(changed) }
  }

  /// Writes what was retained of a response as one record: after a crash all of it is known, or nothing.
  func commit() {
    let changes = unwritten
    unwritten = [:]
    for (url, names) in changes {
      var record = Response()
      record.typeURL = url
      for name in names {
        if let bytes = resources[url]?[name] {
          if let resource = Self.resource(bytes) { record.resources.append(resource) }
        } else {
          record.removedResources.append(name)
        }
      }
      write(record)
    }
  }

  /// Each type was received once: from now on there is a file.
  func complete() {
    isComplete = true
    if file == nil { rewrite() }
  }

  /// The control plane is there, so what is known is true now.
  func confirm() {
    // The record of a response that is being taken confirms too, when it is whole.
    guard isComplete, unwritten.isEmpty else { return }
    write(Response())
  }

  // MARK: The file

  private func write(_ response: Response) {
    guard file != nil, size < 2 * baseSize + Self.slack else { return rewrite() }
    do {
      guard let raw = file?.raw, let bytes = try sealed?.append(Self.record(response, at: now())) else { return }
      guard size + bytes.count <= SealedFile.largest else { return rewrite() }
      try WholeFile.write(bytes, to: raw, path)
      // Policies must not be lost with the power: without the last one, something could be open that is denied.
      try system("fdatasync", path) { fdatasync(raw) }
      size += bytes.count
    } catch {
      fail("\(error)")
    }
  }

  /// Writes the whole file. Not again right after that has failed: a full disk is not emptied by writing to it, and each try
  /// takes as long as the mesh is large. Meanwhile there is no file.
  private func rewrite() {
    closeFile()
    if let nextAttempt, monotonic() < nextAttempt { return }
    do {
      var sealed = try SealedFile(.mesh, secret: vault.secret)
      var bytes = sealed.header
      for response in responses { bytes += try sealed.append(Self.record(response, at: now())) }
      guard bytes.count <= SealedFile.largest else {
        return fail("\(SnapshotError.tooLarge(path: path, bytes: bytes.count, limit: SealedFile.largest))")
      }
      let descriptor = SharedDescriptor(try WholeFile.replace(path, with: bytes))
      (size, baseSize) = (bytes.count, bytes.count)
      self.sealed = sealed
      file = descriptor
      (backoff, nextAttempt) = (FileBackoff(), nil)
    } catch {
      fail("\(error)")
    }
  }

  /// An old file would be taken for the truth after a restart.
  private func fail(_ reason: String) {
    closeFile()
    discard()
    let pause = backoff.fail()
    nextAttempt = monotonic() + pause
    logger.error(
      "the snapshot cannot be kept; it is removed, and a restart needs the control plane",
      metadata: ["path": "\(path)", "error": "\(reason)", "tried_again": "with the first change after \(pause)"])
  }

  private func discard() { unlink(path) }

  private func closeFile() {
    file = nil
    sealed = nil
  }

  // MARK: Contents

  /// Everything, as one response a type. Policies come first, so that no workload is without one it lists in between.
  private var responses: [Response] {
    resources.sorted { $0.key > $1.key }.map { url, entries in
      var response = Response()
      response.typeURL = url
      response.resources = entries.sorted { $0.key < $1.key }.compactMap { Self.resource($0.value) }
      return response
    }
  }

  /// The other way round of what ``retain(_:)`` has written itself.
  private static func resource(_ bytes: [UInt8]) -> Envoy_Service_Discovery_V3_Resource? {
    try? Envoy_Service_Discovery_V3_Resource(serializedBytes: bytes)
  }

  private static func record(_ response: Response, at time: Timestamp) throws -> [UInt8] {
    let seconds = UInt64(bitPattern: time.secondsSinceEpoch)
    let bytes: [UInt8] = try response.serializedBytes()
    return (0..<8).map { UInt8(truncatingIfNeeded: seconds >> (56 - 8 * UInt64($0))) } + bytes
  }

  private static func read(_ record: [UInt8]) -> (Timestamp, Response)? {
    guard record.count >= 8 else { return nil }
    let seconds = record.prefix(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    guard let response = try? Response(serializedBytes: Array(record.dropFirst(8))) else { return nil }
    return (Timestamp(secondsSinceEpoch: Int64(bitPattern: seconds)), response)
  }
}
