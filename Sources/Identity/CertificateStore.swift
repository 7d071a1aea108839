import Logging
import Synchronization
import TLS
import Vocabulary

/// The certificates of all identities on this node: one each, made on demand, renewed in time, forgotten with their
/// last pod (identity.md §5).
///
/// Safe to use from any thread. Fetches run on the default executor, never on the caller's.
public final class CertificateStore: Sendable {
  private struct State {
    var ledger: CertificateLedger
    var waiters: [UInt64: CheckedContinuation<Result<WorkloadCredentials, IdentityError>, Never>] = [:]
    var lastWaiter: UInt64 = 0
    var fetches: [UInt64: Task<Void, Never>] = [:]
    var timer: (due: ContinuousClock.Instant, task: Task<Void, Never>)?
  }

  private let authority: any CertificateAuthority
  private let clock: any StoreClock
  private let logger: Logger
  private let state: Mutex<State>
  private let changed = Mutex<(@Sendable () -> Void)?>(nil)
  /// What new connections use, apart from `state`, so that they never wait behind its work.
  private let published = Mutex<[SPIFFEIdentity: WorkloadCredentials]>([:])

  private let answers = Mutex(AnswerCounts())

  /// `random` is even in 0..<1 and spreads renewals and retries.
  public init(
    authority: any CertificateAuthority, tls: TLSSettings = TLSSettings(), clock: any StoreClock = SystemClock(),
    logger: Logger = Logger(label: "identity"),
    random: @escaping @Sendable () -> Double = { Double.random(in: 0..<1) }
  ) {
    self.authority = authority
    self.clock = clock
    self.logger = logger
    state = Mutex(State(ledger: CertificateLedger(tls: tls, random: random)))
  }

  deinit {
    state.withLock { state in
      state.timer?.task.cancel()
      for fetch in state.fetches.values { fetch.cancel() }
    }
  }

  /// How often the authority gave a certificate, and how often it did not.
  public struct AnswerCounts: Equatable, Sendable {
    public internal(set) var issued: UInt64 = 0
    public internal(set) var failed: UInt64 = 0
  }

  /// What the authority has answered since the start.
  public var counts: AnswerCounts { answers.withLock { $0 } }

  // MARK: For connections

  /// The credentials of an identity if they are there and not expired: a lock and a look-up, without waiting.
  ///
  /// Starts nothing where they are not; ``credentials(for:until:)`` does.
  public func current(_ identity: SPIFFEIdentity) -> WorkloadCredentials? {
    guard let credentials = published.withLock({ $0[identity] }), clock.wall <= credentials.notAfter else { return nil }
    return credentials
  }

  /// The credentials of an identity, fetched where they are not there, waited for until `deadline`.
  ///
  /// All who wait for one identity share its fetch. Failures do not end the wait while time is left: the fetch is
  /// repeated, at first after a second and never more often. Throws at the deadline (`unavailable` with the last
  /// failure, `stillWaiting` without one), `cancelled` with the task, `noLongerNeeded` where the identity is
  /// forgotten meanwhile, and `storeFull`.
  public func credentials(
    for identity: SPIFFEIdentity, until deadline: ContinuousClock.Instant
  ) async throws(IdentityError) -> WorkloadCredentials {
    if let current = current(identity) { return current }
    let waiter = state.withLock { state in
      state.lastWaiter += 1
      return state.lastWaiter
    }
    let result = await withTaskCancellationHandler {
      await withCheckedContinuation { continuation in
        // Cancellation raises the task's flag before it calls the handler: either it is seen here, or the handler
        // finds the waiter registered.
        let isCancelled = update { state, now in
          if Task.isCancelled { return (true, []) }
          state.waiters[waiter] = continuation
          return (false, state.ledger.request(identity, waiter: waiter, deadline: deadline, now: now))
        }
        if isCancelled { continuation.resume(returning: .failure(.cancelled(identity))) }
      }
    } onCancel: {
      update { state, now in ((), state.ledger.cancel(waiter: waiter, now: now)) }
    }
    return try result.get()
  }

  // MARK: For the pods' comings and goings

  /// Has a certificate fetched before the first connection needs it. Revokes a ``forget(_:)`` that has not happened.
  public func prefetch(_ identity: SPIFFEIdentity) {
    update { state, now in ((), state.ledger.prefetch(identity, now: now)) }
  }

  /// Drops an identity a minute from now, unless somebody asks for it until then. Connections that are open stay.
  public func forget(_ identity: SPIFFEIdentity) {
    update { state, now in ((), state.ledger.forget(identity, now: now)) }
  }

  /// The same for the identities of a service account, whatever their trust domain.
  public func forget(namespace: String, serviceAccount: String) {
    update { state, now in
      let identities = state.ledger.identities.filter {
        $0.namespace == namespace && $0.serviceAccount == serviceAccount
      }
      return ((), identities.flatMap { state.ledger.forget($0, now: now) })
    }
  }

  /// The authority has news: everything held is fetched again, and what failed is tried again.
  public func refresh() {
    update { state, now in ((), state.ledger.refresh(now: now)) }
  }

  // MARK: For a restart

  /// Takes certificates from before the process started, of which those that have expired are left out. They serve until
  /// they are renewed; one whose workload does not come within an hour goes.
  public func restore(_ certificates: [WorkloadCertificate]) {
    for certificate in certificates { update { state, now in ((), state.ledger.restore(certificate, now: now)) } }
  }

  /// All certificates that are held and valid, with their keys.
  public func held() -> [WorkloadCertificate] {
    let wall = clock.wall
    return state.withLock { $0.ledger.held(wall) }
  }

  /// Has `body` called, on any thread, whenever a certificate is issued or goes; what came before is told by ``held()``.
  public func onChange(_ body: @escaping @Sendable () -> Void) { changed.withLock { $0 = body } }

  /// All identities and how they stand, sorted, for the admin interface.
  public func statuses() -> [CertificateStatus] {
    let wall = clock.wall
    return state.withLock { $0.ledger.statuses(wall) }
  }

  /// What fetches have come to since the start.
  public func fetches() -> CertificateFetches { state.withLock { $0.ledger.fetches } }

  // MARK: Carrying out

  /// Runs one event through the ledger and carries out what it says. Waiters go on after the lock is released.
  private func update<Value: Sendable>(
    _ event: (inout State, CertificateLedger.Now) -> (Value, [CertificateLedger.Action])
  ) -> Value {
    let (value, resumptions, hasChanged) = state.withLock { state in
      let now = CertificateLedger.Now(wall: clock.wall, monotonic: clock.monotonic)
      let (value, actions) = event(&state, now)
      var resumptions: [Resumption] = []
      for action in actions {
        if let resumption = perform(action, &state) { resumptions.append(resumption) }
      }
      arm(&state, now)
      let hasChanged = actions.contains { action in
        switch action {
        case .publish, .withdraw: true
        default: false
        }
      }
      return (value, resumptions, hasChanged)
    }
    if hasChanged { changed.withLock { $0 }?() }
    for resumption in resumptions { resumption.waiter.resume(returning: resumption.result) }
    return value
  }

  private struct Resumption: Sendable {
    let waiter: CheckedContinuation<Result<WorkloadCredentials, IdentityError>, Never>
    let result: Result<WorkloadCredentials, IdentityError>
  }

  private func perform(_ action: CertificateLedger.Action, _ state: inout State) -> Resumption? {
    switch action {
    case .fetch(let identity, let number):
      state.fetches[number] = Task(priority: .medium) { [weak self, authority] in
        let answer: Result<WorkloadCertificate, IdentityError>
        do throws(IdentityError) {
          answer = .success(try await authority.issue(identity))
        } catch {
          answer = .failure(error)
        }
        self?.complete(identity, number: number, answer)
      }
    case .cancelFetch(let number):
      state.fetches.removeValue(forKey: number)?.cancel()
    case .publish(let credentials):
      published.withLock { $0[credentials.identity] = credentials }
    case .withdraw(let identity):
      published.withLock { $0[identity] = nil }
    case .resume(let waiter, let result):
      return state.waiters.removeValue(forKey: waiter).map { Resumption(waiter: $0, result: result) }
    }
    return nil
  }

  private func complete(
    _ identity: SPIFFEIdentity, number: UInt64, _ answer: Result<WorkloadCertificate, IdentityError>
  ) {
    switch answer {
    case .success(let certificate):
      answers.withLock { $0.issued += 1 }
      logger.debug(
        "certificate issued",
        metadata: ["identity": "\(identity)", "not_after": "\(certificate.leaf.notAfter)"])
    case .failure(let error):
      answers.withLock { $0.failed += 1 }
      logger.warning("no certificate", metadata: ["identity": "\(identity)", "error": "\(error)"])
    }
    update { state, now in
      state.fetches[number] = nil
      return ((), state.ledger.complete(identity, number: number, answer, now: now))
    }
  }

  /// Sets the timer where the next tick is due before the one it is set to. One that fires early does no harm.
  private func arm(_ state: inout State, _ now: CertificateLedger.Now) {
    guard let due = state.ledger.nextTick(now), state.timer.map({ due < $0.due }) ?? true else { return }
    state.timer?.task.cancel()
    let task = Task(priority: .medium) { [weak self, clock] in
      do { try await clock.sleep(until: due) } catch { return }
      self?.timerFired(due)
    }
    state.timer = (due, task)
  }

  private func timerFired(_ due: ContinuousClock.Instant) {
    update { state, now in
      // A timer that was replaced while it fired leaves its successor alone.
      if state.timer?.due == due { state.timer = nil }
      return ((), state.ledger.tick(now))
    }
  }
}
