import TLS
import Testing
import Vocabulary

@testable import Identity

@Suite("When certificates are fetched, renewed, kept and dropped")
struct CertificateLedgerTests {
  typealias Now = CertificateLedger.Now

  /// A ledger with the time and the answers in a test's hand.
  struct Bench {
    let issuer: TestIssuer
    var ledger: CertificateLedger
    var now = Now(wall: Timestamp(secondsSinceEpoch: 1_800_000_000), monotonic: .now)
    var lastWaiter: UInt64 = 0
    /// Fetches that were asked for and not answered, by identity.
    var running: [SPIFFEIdentity: UInt64] = [:]
    var cancelled: [UInt64] = []
    var published: [WorkloadCredentials] = []
    var withdrawn: [SPIFFEIdentity] = []
    var resumed: [UInt64: Result<WorkloadCredentials, IdentityError>] = [:]

    init(random: Double = 0.5, limits: CertificateLedger.Limits = .init()) throws {
      issuer = try TestIssuer()
      ledger = CertificateLedger(limits: limits, random: { random })
    }

    mutating func take(_ actions: [CertificateLedger.Action]) {
      for action in actions {
        switch action {
        case .fetch(let identity, let number): running[identity] = number
        case .cancelFetch(let number):
          cancelled.append(number)
          running = running.filter { $0.value != number }
        case .publish(let credentials): published.append(credentials)
        case .withdraw(let identity): withdrawn.append(identity)
        case .resume(let waiter, let result): resumed[waiter] = result
        }
      }
    }

    mutating func request(_ identity: SPIFFEIdentity, patience: Duration = .seconds(10)) -> UInt64 {
      lastWaiter += 1
      take(ledger.request(identity, waiter: lastWaiter, deadline: now.monotonic + patience, now: now))
      return lastWaiter
    }

    mutating func prefetch(_ identity: SPIFFEIdentity) { take(ledger.prefetch(identity, now: now)) }
    mutating func forget(_ identity: SPIFFEIdentity) { take(ledger.forget(identity, now: now)) }

    /// Lets time pass in one leap and ticks, as a timer would at its end.
    mutating func pass(_ seconds: Double) {
      now.monotonic += .seconds(seconds)
      now.wall = now.wall.advanced(bySeconds: Int64(seconds))
      take(ledger.tick(now))
    }

    mutating func answer(_ identity: SPIFFEIdentity, _ result: Result<WorkloadCertificate, IdentityError>) throws {
      let removed = running.removeValue(forKey: identity)
      let number = try #require(removed)
      take(ledger.complete(identity, number: number, result, now: now))
    }

    mutating func issue(_ identity: SPIFFEIdentity, seconds: Int64 = 86400) throws {
      try answer(identity, .success(issuer.issue(identity, from: now.wall, seconds: seconds)))
    }

    mutating func refuse(_ identity: SPIFFEIdentity) throws {
      try answer(identity, .failure(.issueFailed(identity, reason: "no")))
    }

    func state(_ identity: SPIFFEIdentity) -> CertificateStatus.State? {
      ledger.statuses(now.wall).first { $0.identity == identity }?.state
    }
  }

  let web = SPIFFEIdentity.account("web")

  @Test("what no pod has, and nobody waits for any more, is not asked for ever after; what a pod has is")
  func abandoned() throws {
    var bench = try Bench()
    let pods = SPIFFEIdentity.account("pods")
    bench.prefetch(pods)
    _ = bench.request(web, patience: .seconds(2))
    for identity in [web, pods] { try bench.refuse(identity) }
    for _ in 0..<40 {
      bench.pass(30)
      for identity in Array(bench.running.keys) { try bench.refuse(identity) }
    }
    #expect(bench.state(web) == nil && bench.state(pods) != nil)
    bench.pass(300)
    #expect(bench.running[web] == nil && bench.running[pods] != nil)
    _ = bench.request(web)
    #expect(bench.running[web] != nil, "a connection may ask again")
  }

  // MARK: Asking

  @Test("all who wait for one identity share one fetch")
  func sharing() throws {
    var bench = try Bench()
    let waiters = [bench.request(web), bench.request(web), bench.request(web)]
    #expect(bench.running == [web: 1])
    #expect(bench.state(web) == .initializing)
    try bench.issue(web)
    for waiter in waiters { #expect(try bench.resumed[waiter]?.get().identity == web) }
    #expect(bench.state(web) == .available)
    #expect(bench.running.isEmpty)
  }

  @Test("a held certificate is handed out at once, without a fetch")
  func cached() throws {
    var bench = try Bench()
    bench.prefetch(web)
    try bench.issue(web)
    let waiter = bench.request(web)
    #expect(try bench.resumed[waiter]?.get() === bench.published.last)
    #expect(bench.running.isEmpty)
  }

  @Test("at most eight fetches run, and those somebody waits for go first")
  func inFlight() throws {
    var bench = try Bench()
    for number in 0..<12 { bench.prefetch(.account("warm\(number)")) }
    #expect(bench.running.count == 8)
    _ = bench.request(web)
    #expect(bench.running.count == 8)
    #expect(bench.running[web] == nil)
    try bench.issue(try #require(bench.running.keys.first))
    #expect(bench.running[web] != nil)
    #expect(bench.running.count == 8)
  }

  @Test("a wait ends at its deadline although the authority has not answered")
  func deadline() throws {
    var bench = try Bench()
    let waiter = bench.request(web, patience: .seconds(3))
    #expect(bench.ledger.nextTick(bench.now) == bench.now.monotonic + .seconds(3))
    bench.pass(3)
    guard case .failure(.stillWaiting(web)) = bench.resumed[waiter] else {
      Issue.record("\(String(describing: bench.resumed[waiter]))")
      return
    }
    #expect(bench.running[web] != nil, "others may still want the answer")
  }

  @Test("a wait that ends after failures tells the last one")
  func deadlineAfterFailure() throws {
    var bench = try Bench()
    let waiter = bench.request(web, patience: .seconds(3))
    try bench.refuse(web)
    #expect(bench.resumed[waiter] == nil, "a failure alone ends no wait")
    bench.pass(3)
    guard case .failure(.unavailable(web, cause: .issueFailed(web, reason: "no"))) = bench.resumed[waiter] else {
      Issue.record("\(String(describing: bench.resumed[waiter]))")
      return
    }
  }

  @Test("a wait outlives a first failure that is soon over")
  func firstFailure() throws {
    var bench = try Bench()
    let waiter = bench.request(web)
    try bench.refuse(web)
    #expect(bench.running.isEmpty)
    bench.pass(1)
    try bench.issue(web)
    #expect(try bench.resumed[waiter]?.get().identity == web)
  }

  @Test("a cancelled wait ends at once, and the fetch goes on for the others")
  func cancellation() throws {
    var bench = try Bench()
    let first = bench.request(web)
    let second = bench.request(web)
    bench.take(bench.ledger.cancel(waiter: first, now: bench.now))
    #expect(throws: IdentityError.cancelled(web)) { try bench.resumed[first]?.get() }
    try bench.issue(web)
    #expect(try bench.resumed[second]?.get().identity == web)
  }

  // MARK: Renewing

  @Test(
    "a certificate is renewed at half of its life, give or take a fifth of that",
    arguments: [(0.0, 34560), (0.5, 43200), (0.999_999, 51839)] as [(Double, Int)])
  func renewal(random: Double, expected: Int) throws {
    var bench = try Bench(random: random)
    bench.prefetch(web)
    try bench.issue(web, seconds: 86400)
    bench.pass(Double(expected - 1))
    #expect(bench.running.isEmpty)
    bench.pass(2)
    #expect(bench.running[web] != nil)
    #expect(bench.state(web) == .available)
  }

  @Test("a renewed certificate replaces the one before for new connections")
  func replacement() throws {
    var bench = try Bench()
    bench.prefetch(web)
    try bench.issue(web)
    bench.pass(43200)
    try bench.issue(web)
    #expect(bench.published.count == 2)
    let waiter = bench.request(web)
    #expect(try bench.resumed[waiter]?.get() === bench.published.last)
  }

  @Test("a failed renewal keeps the certificate until it expires")
  func failedRenewal() throws {
    var bench = try Bench()
    bench.prefetch(web)
    try bench.issue(web, seconds: 100)
    bench.pass(50)
    try bench.refuse(web)
    #expect(bench.state(web) == .available)
    let waiter = bench.request(web)
    #expect(try bench.resumed[waiter]?.get().identity == web)
    bench.pass(51)
    guard case .unavailable = bench.state(web) else {
      Issue.record("\(String(describing: bench.state(web)))")
      return
    }
  }

  @Test("an expired certificate is never handed out")
  func expired() throws {
    var bench = try Bench()
    bench.prefetch(web)
    try bench.issue(web, seconds: 100)
    bench.now.wall = bench.now.wall.advanced(bySeconds: 101)
    let waiter = bench.request(web)
    #expect(bench.resumed[waiter] == nil)
    #expect(bench.running[web] != nil)
  }

  @Test("a step of the wall clock is noticed within half a minute")
  func wallClockStep() throws {
    var bench = try Bench()
    bench.prefetch(web)
    try bench.issue(web, seconds: 86400)
    let tick = try #require(bench.ledger.nextTick(bench.now))
    #expect(tick <= bench.now.monotonic + .seconds(30))
    bench.now.wall = bench.now.wall.advanced(bySeconds: 50000)
    bench.now.monotonic = tick
    bench.take(bench.ledger.tick(bench.now))
    #expect(bench.running[web] != nil)
  }

  @Test("a certificate of one second's life is not renewed in a loop")
  func shortLife() throws {
    var bench = try Bench()
    bench.prefetch(web)
    try bench.issue(web, seconds: 1)
    #expect(bench.running.isEmpty)
    #expect(try #require(bench.ledger.nextTick(bench.now)) >= bench.now.monotonic + .seconds(1))
  }

  // MARK: Failing

  @Test("retries of an identity nobody waits for back off from one second to 150")
  func backoff() throws {
    var bench = try Bench()
    bench.prefetch(web)
    for pause in [1.0, 2, 4, 8, 16, 32, 64, 128, 150, 150] {
      try bench.refuse(web)
      bench.pass(pause - 0.01)
      #expect(bench.running.isEmpty, "too early after \(pause)")
      bench.pass(0.02)
      #expect(bench.running[web] != nil, "too late after \(pause)")
    }
  }

  @Test("pauses vary by a fifth in both directions", arguments: [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)])
  func jitter(random: Double, factor: Double) {
    var backoff = FetchBackoff()
    for nominal in [1.0, 2, 4] {
      let pause = backoff.fail(random: random).scheduled
      #expect(abs(pause / .seconds(nominal * factor) - 1) < 0.001)
    }
  }

  @Test("a request for an unavailable identity does not wait for the next scheduled retry")
  func urgentRetry() throws {
    var bench = try Bench()
    bench.prefetch(web)
    for pause in [1.0, 2, 4, 8, 16, 32, 64, 128] {
      try bench.refuse(web)
      bench.pass(pause + 0.01)
    }
    try bench.refuse(web)
    bench.pass(10)
    #expect(bench.running.isEmpty)
    let waiter = bench.request(web)
    #expect(bench.running[web] != nil)
    try bench.issue(web)
    #expect(try bench.resumed[waiter]?.get().identity == web)
  }

  @Test("requests in a row do not make the authority's load")
  func urgentRetryIsLimited() throws {
    var bench = try Bench()
    var fetches = 0
    for _ in 0..<200 {
      _ = bench.request(web, patience: .seconds(1))
      if bench.running[web] != nil {
        fetches += 1
        try bench.refuse(web)
      }
      bench.pass(0.1)
    }
    // Twenty seconds with pauses of 1, 2, 4, 5, 5 seconds.
    #expect((4...7).contains(fetches), "\(fetches) fetches in twenty seconds")
  }

  @Test("the first failure after a success waits one second again")
  func backoffReset() throws {
    var bench = try Bench()
    bench.prefetch(web)
    for pause in [1.0, 2, 4] {
      try bench.refuse(web)
      bench.pass(pause + 0.01)
    }
    try bench.issue(web, seconds: 1000)
    bench.pass(501)
    try bench.refuse(web)
    bench.pass(1.01)
    #expect(bench.running[web] != nil)
  }

  @Test("an authority that never answers does not hold its slot")
  func stalled() throws {
    var bench = try Bench()
    for number in 0..<8 { bench.prefetch(.account("stalled\(number)")) }
    bench.prefetch(web)
    #expect(bench.running[web] == nil)
    let stalled = bench.running
    bench.pass(30)
    #expect(Set(bench.cancelled) == Set(stalled.values))
    #expect(bench.running[web] != nil)
    guard case .unavailable(.issueTimedOut) = bench.state(.account("stalled0")) else {
      Issue.record("not timed out")
      return
    }
  }

  @Test("an answer that comes after its fetch was given up is ignored")
  func lateAnswer() throws {
    var bench = try Bench()
    bench.prefetch(web)
    let number = try #require(bench.running[web])
    bench.pass(30)
    let late = try bench.issuer.issue(web, from: bench.now.wall, seconds: 100)
    bench.take(bench.ledger.complete(web, number: number, .success(late), now: bench.now))
    #expect(bench.published.isEmpty)
  }

  @Test("a certificate for somebody else is refused")
  func wrongIdentity() throws {
    var bench = try Bench()
    bench.prefetch(web)
    try bench.answer(web, .success(bench.issuer.issue(.account("other"), from: bench.now.wall, seconds: 100)))
    #expect(
      bench.state(web)
        == .unavailable(.wrongIdentityIssued(web, issued: ["spiffe://cluster.local/ns/test/sa/other"])))
    #expect(bench.published.isEmpty)
  }

  @Test("a certificate that has expired on its way is refused")
  func expiredOnArrival() throws {
    var bench = try Bench()
    bench.prefetch(web)
    let notBefore = bench.now.wall.advanced(bySeconds: -100)
    try bench.answer(web, .success(bench.issuer.issue(web, from: notBefore, seconds: 99)))
    #expect(bench.state(web)?.description.hasPrefix("Unavailable: ") == true)
    #expect(bench.published.isEmpty)
  }

  // MARK: Forgetting

  @Test("a forgotten identity is kept for a minute and then dropped")
  func forget() throws {
    var bench = try Bench()
    bench.prefetch(web)
    try bench.issue(web)
    bench.forget(web)
    bench.pass(59)
    #expect(bench.withdrawn.isEmpty)
    bench.pass(1)
    #expect(bench.withdrawn == [web])
    #expect(bench.state(web) == nil)
    #expect(bench.ledger.nextTick(bench.now) == nil)
  }

  @Test("a pod that comes back within the minute keeps its certificate", arguments: [true, false])
  func comeBack(byRequest: Bool) throws {
    var bench = try Bench()
    bench.prefetch(web)
    try bench.issue(web)
    bench.forget(web)
    bench.pass(30)
    if byRequest { _ = bench.request(web) } else { bench.prefetch(web) }
    bench.pass(60)
    #expect(bench.state(web) == .available)
    #expect(bench.withdrawn.isEmpty)
  }

  @Test("a forgotten identity is not fetched again, and its fetch is cancelled")
  func forgetWhileFetching() throws {
    var bench = try Bench()
    bench.prefetch(web)
    try bench.refuse(web)
    bench.forget(web)
    bench.pass(59)
    #expect(bench.running.isEmpty)

    let busy = SPIFFEIdentity.account("busy")
    bench.prefetch(busy)
    bench.forget(busy)
    bench.pass(29)
    let number = try #require(bench.running[busy])
    bench.pass(1)
    #expect(bench.cancelled.contains(number))
  }

  @Test("who still waits for an identity when it is dropped is told so")
  func forgetWhileWaiting() throws {
    var bench = try Bench()
    let waiter = bench.request(web, patience: .seconds(1000))
    bench.forget(web)
    bench.pass(60)
    #expect(throws: IdentityError.noLongerNeeded(web)) { try bench.resumed[waiter]?.get() }
  }

  // MARK: Bounds

  @Test("no more identities are kept than the limit says")
  func identityLimit() throws {
    var bench = try Bench(limits: .init(identities: 2))
    bench.prefetch(.account("a"))
    bench.prefetch(.account("b"))
    bench.prefetch(.account("c"))
    #expect(bench.ledger.statuses(bench.now.wall).count == 2)
    let refused = bench.request(.account("c"))
    #expect(throws: IdentityError.storeFull(.account("c"))) { try bench.resumed[refused]?.get() }
    let known = bench.request(.account("a"))
    #expect(bench.resumed[known] == nil)
  }

  @Test("no more connections wait than the limit says, and room is made when one leaves")
  func waiterLimit() throws {
    var bench = try Bench(limits: .init(waiters: 2))
    let first = bench.request(web)
    _ = bench.request(.account("b"))
    let refused = bench.request(web)
    #expect(throws: IdentityError.storeFull(web)) { try bench.resumed[refused]?.get() }
    bench.take(bench.ledger.cancel(waiter: first, now: bench.now))
    let admitted = bench.request(web)
    #expect(bench.resumed[admitted] == nil)
  }

  @Test("fifty thousand connections that wait for a stalled authority end in order, each at its deadline")
  func storm() throws {
    var bench = try Bench()
    let waiters = (0..<50_000).map { bench.request(web, patience: .milliseconds(1000 + $0 % 10)) }
    bench.pass(1.0045)
    #expect(bench.resumed.count == 25_000)
    #expect(bench.ledger.nextTick(bench.now).map { $0 - bench.now.monotonic < .milliseconds(1) } == true)
    bench.pass(1)
    #expect(bench.resumed.count == waiters.count)
  }
}
