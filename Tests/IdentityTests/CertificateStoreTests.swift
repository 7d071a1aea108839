import Synchronization
import TLS
import Testing
import Vocabulary

@testable import Identity

/// An authority that answers as a test tells it, and counts.
final class ScriptedAuthority: CertificateAuthority {
  enum Answer: Sendable { case issue(seconds: Int64), refuse, stall }

  let issuer: TestIssuer
  let clock: ManualClock
  private let state: Mutex<(answer: Answer, calls: [SPIFFEIdentity: Int])>

  init(_ clock: ManualClock, _ answer: Answer = .issue(seconds: 86400)) throws {
    issuer = try TestIssuer()
    self.clock = clock
    state = Mutex((answer, [:]))
  }

  func answer(_ answer: Answer) { state.withLock { $0.answer = answer } }
  func calls(_ identity: SPIFFEIdentity) -> Int { state.withLock { $0.calls[identity] ?? 0 } }

  func issue(_ identity: SPIFFEIdentity) async throws(IdentityError) -> WorkloadCertificate {
    let answer = state.withLock { state in
      state.calls[identity, default: 0] += 1
      return state.answer
    }
    switch answer {
    case .issue(let seconds):
      // Others get the chance to ask meanwhile.
      await Task.yield()
      do throws(TLSError) {
        return try issuer.issue(identity, from: clock.wall, seconds: seconds)
      } catch {
        throw .issueFailed(identity, reason: error.summary)
      }
    case .refuse:
      throw .issueFailed(identity, reason: "no")
    case .stall:
      try? await Task.sleep(for: .seconds(3600))
      throw .issueFailed(identity, reason: "cancelled")
    }
  }
}

@Suite("The store of certificates", .timeLimit(.minutes(3)))
struct CertificateStoreTests {
  let clock = ManualClock()
  let authority: ScriptedAuthority
  let store: CertificateStore
  let web = SPIFFEIdentity.account("web")

  init() throws {
    authority = try ScriptedAuthority(clock)
    store = CertificateStore(authority: authority, clock: clock, random: { 0.5 })
  }

  private func soon(_ seconds: Int64 = 10) -> ContinuousClock.Instant { clock.monotonic + .seconds(seconds) }

  @Test("nothing is there before somebody asks, and then it is there without waiting")
  func onDemand() async throws {
    #expect(store.current(web) == nil)
    #expect(authority.calls(web) == 0)
    let credentials = try await store.credentials(for: web, until: soon())
    #expect(credentials.identity == web)
    #expect(store.current(web) === credentials)
    #expect(store.statuses().map(\.state.description) == ["Available"])
  }

  @Test("a hundred tasks that ask at once share one fetch and one answer")
  func sharing() async throws {
    let deadline = soon()
    let answers = try await withThrowingTaskGroup(of: WorkloadCredentials.self) { group in
      for _ in 0..<100 {
        group.addTask { [store, web] in try await store.credentials(for: web, until: deadline) }
      }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(answers.count == 100)
    #expect(Set(answers.map(ObjectIdentifier.init)).count == 1)
    #expect(authority.calls(web) == 1)
  }

  @Test("contexts are built once and shared")
  func contexts() async throws {
    let credentials = try await store.credentials(for: web, until: soon())
    let first = try credentials.context(.client)
    let second = try credentials.context(.client)
    let server = try credentials.context(.server)
    #expect(first === second)
    #expect(first.role == .client)
    #expect(server.role == .server)
    #expect(server.identity == web)
  }

  @Test("a prefetched identity is there when its first connection comes")
  func prefetch() async throws {
    store.prefetch(web)
    try await eventually("prefetched") { store.current(web) != nil }
    #expect(authority.calls(web) == 1)
  }

  @Test("a certificate is renewed at half of its life while the old one serves")
  func rotation() async throws {
    let first = try await store.credentials(for: web, until: soon())
    clock.advance(seconds: 43199)
    #expect(store.current(web) === first)
    clock.advance(seconds: 2)
    try await eventually("renewed") { store.current(web) !== first }
    #expect(store.current(web) != nil)
    #expect(authority.calls(web) == 2)
  }

  @Test("an expired certificate is not handed out, however the clock got there")
  func expiry() async throws {
    authority.answer(.issue(seconds: 100))
    _ = try await store.credentials(for: web, until: soon())
    authority.answer(.refuse)
    clock.stepWall(seconds: 100)
    #expect(store.current(web) != nil)
    clock.stepWall(seconds: 1)
    #expect(store.current(web) == nil)
  }

  @Test("a failing renewal is retried, and the old certificate serves meanwhile")
  func failingRenewal() async throws {
    let first = try await store.credentials(for: web, until: soon())
    authority.answer(.refuse)
    clock.advance(seconds: 43201)
    try await eventually("refused") { store.statuses().first?.lastError != nil }
    #expect(store.current(web) === first)
    #expect(store.statuses().first?.state == .available)
    authority.answer(.issue(seconds: 86400))
    clock.advance(seconds: 2)
    try await eventually("renewed") { store.current(web) !== first }
    #expect(store.statuses().first?.lastError == nil)
  }

  @Test("a wait ends at its deadline with the authority's reason")
  func deadline() async throws {
    authority.answer(.refuse)
    let deadline = soon(3)
    let waiting = Task { [store, web] in try await store.credentials(for: web, until: deadline) }
    try await eventually("refused") { store.statuses().first?.lastError != nil }
    clock.advance(seconds: 3)
    let error = await #expect(throws: IdentityError.self) { try await waiting.value }
    #expect(error == .unavailable(web, cause: .issueFailed(web, reason: "no")))
    #expect(store.statuses().map(\.state) == [.unavailable(.issueFailed(web, reason: "no"))])
  }

  @Test("a wait for an authority that stalls ends at its deadline too")
  func stalled() async throws {
    authority.answer(.stall)
    let deadline = soon(3)
    let waiting = Task { [store, web] in try await store.credentials(for: web, until: deadline) }
    try await eventually("asked") { authority.calls(web) == 1 }
    clock.advance(seconds: 3)
    await #expect(throws: IdentityError.stillWaiting(web)) { try await waiting.value }
  }

  @Test("a request after a failure has the authority asked again at once")
  func urgentRetry() async throws {
    authority.answer(.refuse)
    store.prefetch(web)
    // A refusal is counted before its retry is armed: a clock that was stepped once, in between, would be stepped too early.
    for attempts in 1...7 {
      try await eventually("asked \(attempts) times") {
        if authority.calls(web) >= attempts { return true }
        clock.advance(seconds: 1)
        return false
      }
    }
    authority.answer(.issue(seconds: 86400))
    let deadline = soon()
    let waiting = Task { [store, web] in try await store.credentials(for: web, until: deadline) }
    // Far less than the half minute and more that the next retry would have been put off by now.
    var stepped = 0
    try await eventually("issued") {
      if store.current(web) != nil { return true }
      if stepped < 9 {
        clock.advance(seconds: 1)
        stepped += 1
      }
      return false
    }
    let credentials = try await waiting.value
    #expect(credentials.identity == web)
  }

  @Test("a cancelled task waits no longer")
  func cancellation() async throws {
    authority.answer(.stall)
    let deadline = soon()
    let waiting = Task { [store, web] in try await store.credentials(for: web, until: deadline) }
    try await eventually("asked") { authority.calls(web) == 1 }
    waiting.cancel()
    await #expect(throws: IdentityError.cancelled(web)) { try await waiting.value }
  }

  @Test("a forgotten identity serves for a minute and is then gone")
  func forget() async throws {
    _ = try await store.credentials(for: web, until: soon())
    store.forget(web)
    clock.advance(seconds: 59)
    #expect(store.current(web) != nil)
    clock.advance(seconds: 1)
    try await eventually("forgotten") { store.current(web) == nil }
    #expect(store.statuses().isEmpty)
  }

  @Test("a store that goes away stops its fetches and timers")
  func lifetime() async throws {
    authority.answer(.stall)
    var store: CertificateStore? = CertificateStore(authority: authority, clock: clock)
    weak let observed = store
    store?.prefetch(.account("gone"))
    try await eventually("asked") { authority.calls(.account("gone")) == 1 }
    store = nil
    try await eventually("released") { observed == nil }
  }

  @Test("the listing shows chain and roots, sorted by identity")
  func listing() async throws {
    for name in ["b", "a", "c"] { _ = try await store.credentials(for: .account(name), until: soon()) }
    let statuses = store.statuses()
    #expect(statuses.map(\.identity.serviceAccount) == ["a", "b", "c"])
    #expect(statuses.allSatisfy { $0.chain.count == 1 && $0.roots == [authority.issuer.root] })
  }
}
