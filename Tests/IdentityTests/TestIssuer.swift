import Glibc
import Synchronization
import TLS
import Testing
import Vocabulary

@testable import Identity

/// A root that signs whatever a test wants.
struct TestIssuer: Sendable {
  let key: PrivateKey
  let root: Certificate

  init() throws {
    key = try PrivateKey.generate()
    root = try CertificateTemplate(
      commonName: "Root", isAuthority: true, notBefore: Timestamp(secondsSinceEpoch: 0),
      notAfter: Timestamp(secondsSinceEpoch: 4_000_000_000)
    ).signed(for: key)
  }

  func issue(_ identity: SPIFFEIdentity, from notBefore: Timestamp, seconds: Int64) throws(TLSError)
    -> WorkloadCertificate
  {
    let leafKey = try PrivateKey.generate()
    let leaf = try CertificateTemplate(
      alternativeNames: [.uri(identity.description)], notBefore: notBefore,
      notAfter: notBefore.advanced(bySeconds: seconds)
    ).signed(for: leafKey, by: (root, key))
    return try WorkloadCertificate(chain: [leaf], privateKey: leafKey, roots: [root])
  }
}

extension SPIFFEIdentity {
  static func account(_ name: String) -> SPIFFEIdentity {
    SPIFFEIdentity(trustDomain: "cluster.local", namespace: "test", serviceAccount: name)
  }
}

/// Clocks that move only when a test says so.
final class ManualClock: StoreClock {
  private struct State {
    var wall = Timestamp(secondsSinceEpoch: 1_800_000_000)
    var monotonic = ContinuousClock.now
    var sleepers: [UInt64: (due: ContinuousClock.Instant, continuation: CheckedContinuation<Void, any Error>)] = [:]
    var last: UInt64 = 0
  }

  private let state = Mutex(State())

  var wall: Timestamp { state.withLock { $0.wall } }
  var monotonic: ContinuousClock.Instant { state.withLock { $0.monotonic } }

  func sleep(until instant: ContinuousClock.Instant) async throws {
    let number = state.withLock { state in
      state.last += 1
      return state.last
    }
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { continuation in
        let answer: Result<Void, any Error>? = state.withLock { state in
          if Task.isCancelled { return .failure(CancellationError()) }
          if instant <= state.monotonic { return .success(()) }
          state.sleepers[number] = (instant, continuation)
          return nil
        }
        if let answer { continuation.resume(with: answer) }
      }
    } onCancel: {
      state.withLock { $0.sleepers.removeValue(forKey: number)?.continuation }?.resume(throwing: CancellationError())
    }
  }

  /// Moves both clocks.
  func advance(seconds: Int64) {
    let due = state.withLock { state in
      state.wall = state.wall.advanced(bySeconds: seconds)
      state.monotonic += .seconds(seconds)
      let now = state.monotonic
      let due = state.sleepers.filter { $0.value.due <= now }
      for number in due.keys { state.sleepers[number] = nil }
      return due.values.map(\.continuation)
    }
    for continuation in due { continuation.resume() }
  }

  /// Steps the wall clock alone, as an operator or a time service does.
  func stepWall(seconds: Int64) {
    state.withLock { $0.wall = $0.wall.advanced(bySeconds: seconds) }
  }
}

/// Waits until a condition holds, at most a minute of real time.
func eventually(_ what: Comment, _ condition: () -> Bool) async throws {
  for _ in 0..<12000 {
    if condition() { return }
    try await Task.sleep(for: .milliseconds(5))
  }
  Issue.record(what)
}

/// A directory that goes with this object.
final class TemporaryDirectory: Sendable {
  let path: String

  init() throws {
    var template = Array("/tmp/identity-XXXXXX".utf8CString)
    let path = try #require(mkdtemp(&template))
    self.path = String(cString: path)
  }

  deinit {
    for file in AuthorityFile.allCases { unlink(file.path(in: path)) }
    rmdir(path)
  }

  func write(_ text: String, to file: AuthorityFile) throws {
    let path = file.path(in: path)
    unlink(path)
    let stream = try #require(fopen(path, "w"))
    fputs(text, stream)
    fclose(stream)
  }
}
