import Glibc
import Linux
import Logging
import TLS
import XDS

/// Keeps what the control plane says in a sealed file: each answer becomes records, written before it is acknowledged, so that
/// a restart never knows less than the control plane believes it knows. What it takes to write is what changed; the file is
/// written anew when it has grown to twice its size. In memory there is of each resource its name and where it lies.
///
/// There is a file only while it is complete: it gets its place when each type was received once, and goes where it cannot be
/// kept up. A part of the mesh without its policies would open what is denied. Used by one thread at a time, which it
/// blocks; ``JournalKeeper`` has one for it.
final class MeshJournal {
  /// What is known of a resource.
  private struct Place {
    /// Of its bytes, by which it is told that they came again.
    let digest: Int
    /// Number of the record that has them; ``nowhere`` until they are written.
    var record: UInt64

    static let nowhere = UInt64.max
  }

  private typealias Places = [String: [String: Place]]

  /// The file does not hold what was written to it.
  private struct ContentsLost: Error { let reason: SnapshotError }

  private let vault: SnapshotVault
  private let logger: Logger
  private let now: () -> Timestamp
  private let monotonic: () -> ContinuousClock.Instant
  /// By type and name.
  private var places: Places = [:]
  /// What is not written yet, by type and name.
  private var unwritten: [String: [String: RetainedPortion.Entry]] = [:]
  private var unwrittenBytes = 0
  /// Has part of a response that is not whole yet.
  private var isOpen = false
  private var isComplete = false
  private var isLost = false
  /// Another process keeps the file.
  private var isResting = false
  /// When the control plane last said that what is known is true.
  private var confirmed = Timestamp(secondsSinceEpoch: 0)
  private var log: SealedLog?
  private var isInPlace = false
  private var baseSize = 0
  private var backoff = FileBackoff()
  /// After a failure: when it is tried again, at the earliest.
  private var nextAttempt: ContinuousClock.Instant?

  private var path: String { vault.path(.mesh) }

  /// More than this over twice its size makes a file be written anew.
  private static let slack = 1 << 20
  /// Bytes of resources in a record, about.
  private static let recordSize = 256 << 10

  init(
    _ vault: SnapshotVault, logger: Logger, now: @escaping () -> Timestamp = { .now },
    monotonic: @escaping () -> ContinuousClock.Instant = { .now }
  ) {
    self.vault = vault
    self.logger = logger
    self.now = now
    self.monotonic = monotonic
  }

  // MARK: What was kept

  /// Gives `take` what was kept before this process started, as encoded portions of responses, and returns the seconds since
  /// the control plane confirmed it; nil where nothing was. A response that was not written to its end is left out.
  /// Whatever cannot be used is removed, also when `take` throws. Throws ``SnapshotError``.
  func restore(
    limit: Duration, _ take: (_ portion: [UInt8]) throws(ResourceRejection) -> Void
  ) throws(SnapshotError) -> Int64? {
    do throws(SnapshotError) {
      guard let file = try vault.open(.mesh) else { return nil }
      let whole = try inspect(file)
      let age = max(0, now().seconds(since: confirmed))
      guard age <= limit.components.seconds else {
        throw .tooOld(path: path, seconds: age, limit: limit.components.seconds)
      }
      var reader = try vault.reader(of: file, .mesh)
      while reader.number < whole, let record = try reader.next() {
        guard let (_, bytes) = JournalRecord.read(record), let portion = RetainedPortion(encoded: bytes) else {
          throw .malformed(path: path)
        }
        for entry in portion.entries {
          places[portion.typeURL, default: [:]][entry.name] = entry.resource.map {
            Place(digest: Self.digest($0), record: reader.number - 1)
          }
        }
        guard !portion.entries.isEmpty else { continue }
        do throws(ResourceRejection) { try take(bytes) } catch { throw .malformed(path: path) }
      }
      log = SealedLog(reading: file, until: whole, .mesh, in: vault)
      (isComplete, isInPlace) = (true, true)
      return age
    } catch {
      places = [:]
      unlink(path)
      throw error
    }
  }

  /// Reads a file once to its end, which tells that it is whole, and when it was confirmed. Returns the number of the
  /// record after the last whole response.
  private func inspect(_ file: SharedDescriptor) throws(SnapshotError) -> UInt64 {
    var reader = try vault.reader(of: file, .mesh)
    var whole: UInt64 = 0
    while let record = try reader.next() {
      guard let (time, _) = JournalRecord.read(record) else { throw .malformed(path: path) }
      guard let time else { continue }
      confirmed = max(confirmed, time)
      whole = reader.number
    }
    guard whole > 0 else { throw .malformed(path: path) }
    return whole
  }

  // MARK: What the control plane says

  /// Takes what is known from a portion of a response. What is known already, as policies are that come again with every
  /// stream, is not written again.
  func retain(_ portion: RetainedPortion) {
    guard !isLost else { return }
    // Between two responses the file can still be replaced; with half of one it could not, and the half would stay in memory.
    if isComplete, !isOpen, log?.isWritable != true { write(at: confirmed) }
    let url = portion.typeURL
    for entry in portion.entries {
      let digest = entry.resource.map(Self.digest)
      guard places[url]?[entry.name]?.digest != digest else { continue }
      places[url, default: [:]][entry.name] = digest.map { Place(digest: $0, record: Place.nowhere) }
      unwritten[url, default: [:]][entry.name] = entry
      unwrittenBytes += entry.resource?.count ?? entry.name.utf8.count
      isOpen = true
    }
    if unwrittenBytes >= Self.recordSize, log?.isWritable == true || !isComplete { write(at: nil) }
  }

  /// A response is whole: after a crash all of it is known, or nothing. Returns when it is on the disk.
  func commit() {
    guard isOpen else { return }
    isOpen = false
    confirmed = now()
    write(at: confirmed)
  }

  /// Each type was received once: from now on there is a file.
  func complete() {
    isComplete = true
    guard !isInPlace || log?.isWritable != true else { return }
    confirmed = now()
    write(at: confirmed)
  }

  /// The control plane is there, so what is known is true now.
  func confirm() {
    // The record of a response that is being taken confirms too, when it is whole.
    guard isComplete, !isOpen else { return }
    confirmed = now()
    write(at: confirmed)
  }

  /// Writes the file anew where it has grown much. Not part of ``commit()``, because it takes as long as the mesh is large.
  func tidy() {
    guard !isResting, let log, log.isWritable, isInPlace, !isOpen, log.size > 2 * baseSize + Self.slack else { return }
    do { try replaceLog(at: confirmed) } catch let error as ContentsLost { lose(error.reason) } catch {
      // It is as good as before, and larger than it has to be.
      baseSize = log.size
      logger.warning("the snapshot cannot be written anew, and grows on", metadata: ["error": "\(error)"])
    }
  }

  /// Leaves the file to another process that follows the control plane, too; or takes it back, with all that was said
  /// meanwhile, when the next thing is said.
  func rest(_ isResting: Bool) { self.isResting = isResting }

  // MARK: The file

  /// Writes what is unwritten; with `time` it makes a response whole. Not again right after that has failed: a full disk is
  /// not emptied by writing to it, and each try takes as long as the mesh is large. Meanwhile there is no file.
  private func write(at time: Timestamp?) {
    if isLost || isResting { return }
    if let nextAttempt, monotonic() < nextAttempt { return }
    do {
      // What is added to a file in whose place another process has put its own would be found by nobody.
      if let log, log.isWritable, !isInPlace || log.isInPlace {
        try append(unwritten, at: time, to: log, &places)
        clearUnwritten()
        // Policies must not be lost with the power: without the last one, something could be open that is denied.
        if isInPlace, time != nil { try log.synchronize() }
        if isComplete, !isInPlace { try put(log) }
      } else {
        try replaceLog(at: time)
      }
      (backoff, nextAttempt) = (FileBackoff(), nil)
    } catch let error as ContentsLost { lose(error.reason) } catch { fail("\(error)") }
  }

  /// Makes a new file of all that is known, and puts it in its place once everything is.
  private func replaceLog(at time: Timestamp?) throws {
    let new = try SealedLog(making: .mesh, in: vault)
    var moved: Places = [:]
    do {
      try copy(to: new, &moved)
      try append(unwritten, at: time, to: new, &moved)
      guard places.allSatisfy({ moved[$0]?.count ?? 0 == $1.count }) else {
        throw ContentsLost(reason: .malformed(path: path))
      }
      if isComplete { try put(new) }
    } catch {
      new.remove()
      throw error
    }
    (log, places) = (new, moved)
    clearUnwritten()
  }

  private func put(_ log: SealedLog) throws(SystemError) {
    try log.put()
    isInPlace = true
    baseSize = log.size
  }

  /// Copies what is in force from the file of now.
  private func copy(to new: SealedLog, _ moved: inout Places) throws {
    guard let log else { return }
    var reader: SealedReader
    do throws(SnapshotError) { reader = try log.reader() } catch { throw ContentsLost(reason: error) }
    var batch: [String: [String: RetainedPortion.Entry]] = [:]
    var bytes = 0
    while reader.number < log.count {
      let number = reader.number
      for (url, entry) in try Self.entries(of: &reader, path) where places[url]?[entry.name]?.record == number {
        batch[url, default: [:]][entry.name] = entry
        bytes += entry.resource?.count ?? 0
      }
      guard bytes >= Self.recordSize || reader.number == log.count else { continue }
      try append(batch, at: nil, to: new, &moved)
      (batch, bytes) = ([:], 0)
    }
  }

  private static func entries(
    of reader: inout SealedReader, _ path: String
  ) throws(ContentsLost) -> [(url: String, entry: RetainedPortion.Entry)] {
    do throws(SnapshotError) {
      guard let record = try reader.next(), let (_, bytes) = JournalRecord.read(record),
        let portion = RetainedPortion(encoded: bytes)
      else { throw .malformed(path: path) }
      return portion.entries.map { (portion.typeURL, $0) }
    } catch { throw ContentsLost(reason: error) }
  }

  /// Adds entries as records, the last one with `time`, and notes where each lies.
  private func append(
    _ entries: [String: [String: RetainedPortion.Entry]], at time: Timestamp?, to log: SealedLog, _ places: inout Places
  ) throws {
    var portions = entries.map { RetainedPortion(typeURL: $0, entries: Array($1.values)) }
    if portions.isEmpty, time != nil { portions = [RetainedPortion(typeURL: "")] }
    for (index, portion) in portions.enumerated() {
      let isLast = index == portions.count - 1
      let number = try log.append(JournalRecord.bytes(portion.encoded, at: isLast ? time : nil))
      for entry in portion.entries {
        guard let resource = entry.resource else { continue }
        places[portion.typeURL, default: [:]][entry.name] = Place(digest: Self.digest(resource), record: number)
      }
    }
  }

  private func clearUnwritten() {
    unwritten = [:]
    unwrittenBytes = 0
  }

  /// An old file would be taken for the truth after a restart. What it holds can still be read, for the next one.
  private func fail(_ reason: String) {
    log?.remove()
    isInPlace = false
    let pause = backoff.fail()
    nextAttempt = monotonic() + pause
    logger.error(
      "the snapshot cannot be kept; it is removed, and a restart needs the control plane",
      metadata: ["path": "\(path)", "error": "\(reason)", "tried_again": "with the first change after \(pause)"])
  }

  /// Somebody has changed the file under our hands, or the disk has.
  private func lose(_ error: SnapshotError) {
    log?.remove()
    (log, places) = (nil, [:])
    clearUnwritten()
    isLost = true
    logger.error(
      "the snapshot cannot be read back; there is none until the next start with the control plane",
      metadata: ["path": "\(path)", "error": "\(error)"])
  }

  /// Seeded anew in each process: nobody can choose contents that look the same.
  private static func digest(_ bytes: [UInt8]) -> Int {
    var hasher = Hasher()
    bytes.withUnsafeBytes { hasher.combine(bytes: $0) }
    return hasher.finalize()
  }
}
