import TLS
import Vocabulary

/// Which certificates a node holds, which are being fetched, who waits for them, and what is to be done next.
///
/// Pure: it is told what happens and when, and answers with actions. ``CertificateStore`` carries them out.
struct CertificateLedger: Sendable {
  /// A moment on both clocks.
  struct Now: Sendable {
    var wall: Timestamp
    var monotonic: ContinuousClock.Instant
  }

  enum Action: Sendable {
    /// Ask the authority. The number comes back with the answer.
    case fetch(SPIFFEIdentity, number: UInt64)
    /// Nobody wants the answer of this fetch any more.
    case cancelFetch(number: UInt64)
    /// New connections are to use this from now on.
    case publish(WorkloadCredentials)
    /// New connections have no certificate of this identity any more.
    case withdraw(SPIFFEIdentity)
    /// A waiter's wait is over.
    case resume(waiter: UInt64, Result<WorkloadCredentials, IdentityError>)
  }

  /// How much and how long.
  struct Limits: Sendable {
    /// Fetches at the same time (identity.md §5).
    var fetchesInFlight = 8
    /// How long the authority may take for one answer (identity.md limit 1).
    var patience = Duration.seconds(30)
    /// How long a forgotten identity is kept in case a pod with it comes back (identity.md limit 5).
    var grace = Duration.seconds(60)
    /// How long a restored certificate waits for the workload that it is of.
    var restored = Duration.seconds(3600)
    /// The wall clock is looked at this often, so that a step is noticed (identity.md limit 7).
    var wallClockCheck = Duration.seconds(30)
    /// Seconds before which a new certificate is not renewed, however short its life is.
    var shortestRenewal: Int64 = 1
    /// Far more than a node has pods.
    var identities = 4096
    /// Connections that wait, over all identities.
    var waiters = 65536
  }

  private struct Entry: Sendable {
    var held: WorkloadCredentials?
    /// When the held certificate is to be replaced, by the wall clock.
    var renewal: Timestamp?
    /// When to try again after a failure, and when at the earliest while somebody waits.
    var retry: (scheduled: ContinuousClock.Instant, urgent: ContinuousClock.Instant)?
    var fetch: (number: UInt64, until: ContinuousClock.Instant)?
    var backoff = FetchBackoff()
    var lastError: IdentityError?
    var waiters = WaiterQueue()
    /// A pod has it; else it is there for a connection only.
    var isPods = false
    /// When a forgotten entry goes.
    var removal: ContinuousClock.Instant?

    func usable(_ wall: Timestamp) -> WorkloadCredentials? {
      held.flatMap { wall <= $0.notAfter ? $0 : nil }
    }

    /// When the next fetch is due, or nil while one runs and where none is wanted.
    func due(_ now: Now) -> ContinuousClock.Instant? {
      if fetch != nil { return nil }
      if !waiters.isEmpty { return retry?.urgent ?? now.monotonic }
      if removal != nil { return nil }
      if let retry { return retry.scheduled }
      guard held != nil, let renewal else { return now.monotonic }
      return now.monotonic + .seconds(renewal.seconds(since: now.wall))
    }

    /// Lower is fetched first: those somebody waits for, then those without a certificate, then renewals.
    var rank: Int { !waiters.isEmpty ? 0 : held == nil ? 1 : 2 }
  }

  private var entries: [SPIFFEIdentity: Entry] = [:]
  private var waiting: [UInt64: SPIFFEIdentity] = [:]
  private var lastFetch: UInt64 = 0
  private(set) var fetches = CertificateFetches()
  private let limits: Limits
  private let tls: TLSSettings
  private let random: @Sendable () -> Double

  /// `random` is even in 0..<1.
  init(limits: Limits = Limits(), tls: TLSSettings = TLSSettings(), random: @escaping @Sendable () -> Double) {
    self.limits = limits
    self.tls = tls
    self.random = random
  }

  // MARK: What happens

  /// A connection needs a certificate: at once if one is held, else as soon as one comes, at most until `deadline`.
  mutating func request(
    _ identity: SPIFFEIdentity, waiter: UInt64, deadline: ContinuousClock.Instant, now: Now
  ) -> [Action] {
    let exists = entries[identity] != nil
    if let usable = entries[identity]?.usable(now.wall) {
      entries[identity]?.removal = nil
      return [.resume(waiter: waiter, .success(usable))]
    }
    guard waiting.count < limits.waiters, exists || entries.count < limits.identities else {
      return [.resume(waiter: waiter, .failure(.storeFull(identity)))]
    }
    entries[identity, default: Entry()].waiters.add(waiter, until: deadline)
    entries[identity]?.removal = nil
    waiting[waiter] = identity
    return tick(now)
  }

  /// A pod may need a certificate soon.
  mutating func prefetch(_ identity: SPIFFEIdentity, now: Now) -> [Action] {
    guard entries[identity] != nil || entries.count < limits.identities else { return [] }
    entries[identity, default: Entry()].removal = nil
    entries[identity]?.isPods = true
    return tick(now)
  }

  /// The last pod with this identity has gone.
  mutating func forget(_ identity: SPIFFEIdentity, now: Now) -> [Action] {
    guard entries[identity] != nil else { return [] }
    entries[identity]?.isPods = false
    entries[identity]?.removal = now.monotonic + limits.grace
    return tick(now)
  }

  /// The authority has something new for everybody: what is held is fetched again now, and failures are tried again.
  mutating func refresh(now: Now) -> [Action] {
    for (identity, entry) in entries where entry.removal == nil {
      if entry.held != nil { entries[identity]?.renewal = now.wall }
      entries[identity]?.retry = nil
    }
    return tick(now)
  }

  /// A certificate from before this process started. It is held like any other until its renewal, and like a forgotten one
  /// if nobody asks for it. One that was issued meanwhile is better.
  mutating func restore(_ certificate: WorkloadCertificate, now: Now) -> [Action] {
    guard let identity = certificate.identity, entries[identity]?.held == nil,
      entries[identity] != nil || entries.count < limits.identities,
      case .success(let credentials) = check(.success(certificate), for: identity, now: now)
    else { return [] }
    if entries[identity] == nil {
      entries[identity] = Entry()
      entries[identity]?.removal = now.monotonic + limits.restored
    }
    return succeed(identity, credentials, now: now) + tick(now)
  }

  /// All identities, whether they have a certificate or not.
  var identities: [SPIFFEIdentity] { Array(entries.keys) }

  /// Every certificate that is held and valid.
  func held(_ wall: Timestamp) -> [WorkloadCertificate] {
    entries.values.compactMap { $0.usable(wall)?.certificate }
  }

  /// A waiter's task was cancelled.
  mutating func cancel(waiter: UInt64, now: Now) -> [Action] {
    guard let identity = waiting.removeValue(forKey: waiter) else { return [] }
    entries[identity]?.waiters.remove(waiter)
    return [.resume(waiter: waiter, .failure(.cancelled(identity)))] + tick(now)
  }

  /// The authority has answered. Answers to fetches that were given up are ignored.
  mutating func complete(
    _ identity: SPIFFEIdentity, number: UInt64, _ answer: Result<WorkloadCertificate, IdentityError>, now: Now
  ) -> [Action] {
    guard let entry = entries[identity], entry.fetch?.number == number else { return tick(now) }
    entries[identity]?.fetch = nil
    switch check(answer, for: identity, now: now) {
    case .success(let credentials):
      fetches.succeeded += 1
      return succeed(identity, credentials, now: now) + tick(now)
    case .failure(let error): return fail(identity, error, now: now) + tick(now)
    }
  }

  /// Time has passed: ends what is overdue and starts what is due.
  mutating func tick(_ now: Now) -> [Action] {
    var actions: [Action] = []
    for (identity, entry) in entries {
      if let fetch = entry.fetch, fetch.until <= now.monotonic {
        entries[identity]?.fetch = nil
        actions.append(.cancelFetch(number: fetch.number))
        actions += fail(identity, .issueTimedOut(identity, after: limits.patience), now: now)
      }
      let hasOverdue = entry.waiters.earliest.map { $0 <= now.monotonic } ?? false
      for waiter in hasOverdue ? entries[identity]?.waiters.takeOverdue(now.monotonic) ?? [] : [] {
        waiting[waiter] = nil
        let error = (entries[identity]?.lastError).map { IdentityError.unavailable(identity, cause: $0) }
        actions.append(.resume(waiter: waiter, .failure(error ?? .stillWaiting(identity))))
      }
      if let removal = entries[identity]?.removal, removal <= now.monotonic {
        actions += remove(identity)
      }
    }
    return actions + start(now)
  }

  // MARK: What comes next

  /// When to call ``tick(_:)`` at the latest, or nil where only another event can matter.
  func nextTick(_ now: Now) -> ContinuousClock.Instant? {
    var next: ContinuousClock.Instant?
    func consider(_ instant: ContinuousClock.Instant?) {
      guard let instant else { return }
      next = min(next ?? instant, instant)
    }
    let hasFreeFetch = inFlight < limits.fetchesInFlight
    for entry in entries.values {
      consider(entry.fetch?.until)
      consider(entry.removal)
      consider(entry.waiters.earliest)
      if hasFreeFetch { consider(entry.due(now)) }
      if entry.renewal != nil { consider(now.monotonic + limits.wallClockCheck) }
    }
    return next
  }

  /// All identities, sorted by their text.
  func statuses(_ wall: Timestamp) -> [CertificateStatus] {
    entries.map { identity, entry in
      let state: CertificateStatus.State =
        if entry.usable(wall) != nil {
          .available
        } else if let error = entry.lastError {
          .unavailable(error)
        } else {
          .initializing
        }
      return CertificateStatus(
        identity: identity, state: state, chain: entry.held?.certificate.chain ?? [],
        roots: entry.held?.certificate.roots ?? [], notAfter: entry.held?.notAfter, failures: entry.backoff.failures,
        lastError: entry.lastError)
    }.sorted { $0.identity.description < $1.identity.description }
  }

  // MARK: Steps

  private var inFlight: Int { entries.values.count { $0.fetch != nil } }

  private func check(
    _ answer: Result<WorkloadCertificate, IdentityError>, for identity: SPIFFEIdentity, now: Now
  ) -> Result<WorkloadCredentials, IdentityError> {
    answer.flatMap { certificate in
      guard certificate.identity == identity else {
        return .failure(.wrongIdentityIssued(identity, issued: certificate.leaf.uris))
      }
      let credentials = WorkloadCredentials(identity: identity, certificate: certificate, tls: tls)
      guard now.wall <= credentials.notAfter else {
        return .failure(.expiredOnArrival(identity, notAfter: credentials.notAfter))
      }
      return .success(credentials)
    }
  }

  private mutating func succeed(_ identity: SPIFFEIdentity, _ credentials: WorkloadCredentials, now: Now) -> [Action] {
    guard var entry = entries[identity] else { return [] }
    entry.held = credentials
    entry.lastError = nil
    entry.retry = nil
    entry.backoff.succeed()
    // Half of the life that is left, give or take a fifth of that half, so that what was fetched together is not
    // renewed together (identity.md limit 3).
    let start = max(credentials.certificate.leaf.notBefore, now.wall)
    let half = Double(credentials.notAfter.seconds(since: start)) / 2
    entry.renewal = start.advanced(bySeconds: max(limits.shortestRenewal, Int64(half * (0.8 + 0.4 * random()))))
    let waiters = entry.waiters.takeAll()
    entries[identity] = entry
    for waiter in waiters { waiting[waiter] = nil }
    return [.publish(credentials)] + waiters.map { .resume(waiter: $0, .success(credentials)) }
  }

  /// Waiters go on waiting: the first failure of a pod that has just started is often over in a second.
  private mutating func fail(_ identity: SPIFFEIdentity, _ error: IdentityError, now: Now) -> [Action] {
    fetches.failed += 1
    guard var entry = entries[identity] else { return [] }
    entry.lastError = error
    // An authority that says for certain that nobody may be this any more is believed at once.
    var actions: [Action] = []
    if error.withdrawsCertificate, entry.held != nil {
      (entry.held, entry.renewal) = (nil, nil)
      actions = [.withdraw(identity)]
    }
    let pause = entry.backoff.fail(random: random())
    var scheduled = now.monotonic + pause.scheduled
    if let held = entry.usable(now.wall) {
      let end = now.monotonic + .seconds(max(limits.shortestRenewal, held.notAfter.seconds(since: now.wall)))
      scheduled = min(scheduled, end)
    }
    entry.retry = (scheduled, now.monotonic + pause.urgent)
    // Who wanted it has given up, and no pod has it: it is not asked for ever after.
    if !entry.isPods, entry.held == nil, entry.waiters.isEmpty, entry.removal == nil {
      entry.removal = now.monotonic + limits.grace
    }
    entries[identity] = entry
    return actions
  }

  private mutating func remove(_ identity: SPIFFEIdentity) -> [Action] {
    guard var entry = entries.removeValue(forKey: identity) else { return [] }
    var actions: [Action] = [.withdraw(identity)]
    if let fetch = entry.fetch { actions.append(.cancelFetch(number: fetch.number)) }
    for waiter in entry.waiters.takeAll() {
      waiting[waiter] = nil
      actions.append(.resume(waiter: waiter, .failure(.noLongerNeeded(identity))))
    }
    return actions
  }

  private mutating func start(_ now: Now) -> [Action] {
    let free = limits.fetchesInFlight - inFlight
    guard free > 0 else { return [] }
    let due = entries.compactMap { identity, entry in
      entry.due(now).flatMap { $0 <= now.monotonic ? (identity: identity, rank: entry.rank, at: $0) : nil }
    }.sorted { ($0.rank, $0.at) < ($1.rank, $1.at) }
    return due.prefix(free).map { next in
      lastFetch += 1
      entries[next.identity]?.fetch = (lastFetch, now.monotonic + limits.patience)
      return .fetch(next.identity, number: lastFetch)
    }
  }
}
