import GRPC
import IstioAPI
import Linux
import Logging
import Synchronization
import TLS
import Vocabulary

/// A SPIFFE agent of this machine, such as SPIRE's, as certificate authority (SPIFFE Workload API): it gives this process
/// all identities that it may have, and tells of each change, over a stream that is opened anew whenever it ends.
///
/// Safe to use from any task; the stream lives on one event loop.
public final class SPIFFEAuthority: CertificateAuthority {
  private struct State {
    /// The last answer; it stays in force while the agent is away, until its certificates expire.
    var identities: AgentIdentities?
    /// Why there is no answer yet.
    var failure: GRPCStatus?
    var waiters: [UInt64: CheckedContinuation<Void, Never>] = [:]
    var lastWaiter: UInt64 = 0
  }

  private let loop: EventLoop
  // Made by the caller and used on `loop` only.
  nonisolated(unsafe) private let channel: GRPCChannel
  private let logger: Logger
  private let state = Mutex(State())

  static let method = "/SpiffeWorkloadAPI/FetchX509SVID"
  /// Time one certificate is waited for: less than the store's patience, so that what went wrong has its own name.
  static let patience = Duration.seconds(20)

  /// `channel` belongs to `loop`, and sends ``CallCredentials/Header/workloadAPI``.
  public init(channel: GRPCChannel, loop: EventLoop, logger: Logger = Logger(label: "identity")) {
    self.channel = channel
    self.loop = loop
    self.logger = logger
  }

  /// Follows the agent for as long as the loop runs. `changed` is called on the loop after each answer: what was issued
  /// before may be out of date.
  public func start(changed: @escaping @Sendable () -> Void) {
    loop.spawn { [self] in await follow(changed) }
  }

  // MARK: Issuing

  public func issue(_ identity: SPIFFEIdentity) async throws(IdentityError) -> WorkloadCertificate {
    if let identities = state.withLock({ $0.identities }) { return try identities.certificate(of: identity) }
    await firstAnswer(before: .now + Self.patience)
    let (identities, failure) = state.withLock { ($0.identities, $0.failure) }
    if let identities { return try identities.certificate(of: identity) }
    throw .agentUnavailable(
      identity, failure ?? GRPCStatus(.deadlineExceeded, "\(channel.name) has not answered in time"))
  }

  /// Suspends until the agent has answered or failed, until `deadline`, or until the task is cancelled.
  private func firstAnswer(before deadline: ContinuousClock.Instant) async {
    let waiter = state.withLock { state in
      state.lastWaiter += 1
      return state.lastWaiter
    }
    let timer = Task(priority: .medium) { [weak self] in
      try? await Task.sleep(until: deadline, clock: .continuous)
      self?.wake(waiter)
    }
    await withTaskCancellationHandler {
      await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
        let isOver = state.withLock { state in
          if Task.isCancelled || state.identities != nil || state.failure != nil { return true }
          state.waiters[waiter] = continuation
          return false
        }
        if isOver { continuation.resume() }
      }
    } onCancel: {
      wake(waiter)
    }
    timer.cancel()
  }

  private func wake(_ waiter: UInt64) {
    state.withLock { $0.waiters.removeValue(forKey: waiter) }?.resume()
  }

  private func wakeAll() {
    let waiters = state.withLock { state in
      defer { state.waiters = [:] }
      return state.waiters.values.map { $0 }
    }
    for waiter in waiters { waiter.resume() }
  }

  // MARK: The stream

  private func follow(_ changed: @Sendable () -> Void) async {
    var backoff = FetchBackoff()
    while true {
      let end = await stream { identities in
        backoff.succeed()
        report(identities)
        state.withLock { ($0.identities, $0.failure) = (identities, nil) }
        wakeAll()
        changed()
      }
      state.withLock { if $0.identities == nil { $0.failure = end } }
      wakeAll()
      // Somebody always waits: the mesh cannot do without an agent for minutes after it has come back.
      let pause = backoff.fail(random: Double.random(in: 0..<1)).urgent
      logger.warning(
        "the SPIFFE agent's stream ended; certificates in hand stay good until they expire",
        metadata: ["agent": "\(channel.name)", "error": "\(end)", "retry_in": "\(pause)"])
      await loop.sleep(for: pause)
    }
  }

  /// One stream from beginning to end.
  private func stream(_ received: (AgentIdentities) -> Void) async -> GRPCStatus {
    do throws(GRPCStatus) {
      let call = try await channel.call(Self.method)
      // The request has no fields.
      call.send([])
      call.finishSending()
      while let message = try await call.receive() {
        guard let response = try? X509SVIDResponse(serializedBytes: message) else {
          call.cancel()
          return GRPCStatus(.internalError, "the agent sent an answer that cannot be decoded")
        }
        received(AgentIdentities(response))
      }
      return GRPCStatus(.ok, "the agent ended the stream")
    } catch {
      return error
    }
  }

  private func report(_ identities: AgentIdentities) {
    logger.info(
      "identities from the SPIFFE agent",
      metadata: ["identities": "\(identities.count)", "not_of_service_accounts": "\(identities.foreign)"])
    for (domain, error) in identities.malformedBundles {
      logger.warning("a federated trust bundle is left out", metadata: ["of": "\(domain)", "error": "\(error)"])
    }
  }
}
