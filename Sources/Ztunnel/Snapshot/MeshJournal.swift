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
final class MeshJournal {
  typealias Response = Envoy_Service_Discovery_V3_DeltaDiscoveryResponse
  typealias Resource = Envoy_Service_Discovery_V3_Resource

  private let vault: SnapshotVault
  private let logger: Logger
  private let now: () -> Timestamp
  /// Everything retained, by type and name.
  private var resources: [String: [String: Resource]] = [:]
  private var isComplete = false
  private var file: SharedDescriptor?
  private var sealed: SealedFile?
  private var size = 0
  private var baseSize = 0

  private var path: String { vault.path(.mesh) }

  /// More than this over twice its size makes a file be written anew.
  private static let slack = 1 << 20

  init(_ vault: SnapshotVault, logger: Logger, now: @escaping () -> Timestamp = { .now }) {
    self.vault = vault
    self.logger = logger
    self.now = now
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
        take(response)
      }
      guard !records.isEmpty else { throw .malformed(path: path) }
      let age = max(0, now().seconds(since: confirmed))
      guard age <= limit.components.seconds else {
        throw .tooOld(path: path, seconds: age, limit: limit.components.seconds)
      }
      isComplete = true
      return (responses, age)
    } catch {
      resources = [:]
      discard()
      throw error
    }
  }

  // MARK: What the control plane says

  /// Takes what was understood of a response, before it is acknowledged.
  func append(_ response: Response) {
    let changes = changes(in: response)
    guard !changes.resources.isEmpty || !changes.removedResources.isEmpty else { return }
    take(changes)
    guard isComplete else { return }
    write(changes)
  }

  /// Each type was received once: from now on there is a file.
  func complete() {
    isComplete = true
    if file == nil { rewrite() }
  }

  /// The control plane is there, so what is known is true now.
  func confirm() {
    guard isComplete else { return }
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

  private func rewrite() {
    closeFile()
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
    } catch {
      fail("\(error)")
    }
  }

  /// An old file would be taken for the truth after a restart.
  private func fail(_ reason: String) {
    closeFile()
    discard()
    logger.error(
      "the snapshot cannot be kept; it is removed, and a restart needs the control plane",
      metadata: ["path": "\(path)", "error": "\(reason)"])
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
      response.resources = entries.sorted { $0.key < $1.key }.map(\.value)
      return response
    }
  }

  private func take(_ response: Response) {
    for resource in response.resources { resources[response.typeURL, default: [:]][resource.name] = resource }
    for name in response.removedResources { resources[response.typeURL]?[name] = nil }
  }

  /// What is new in a response: policies come again with every stream.
  private func changes(in response: Response) -> Response {
    let known = resources[response.typeURL] ?? [:]
    var changes = response
    changes.resources = response.resources.filter { known[$0.name] != $0 }
    let added = Set(changes.resources.lazy.map(\.name))
    changes.removedResources = response.removedResources.filter { known[$0] != nil || added.contains($0) }
    return changes
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
