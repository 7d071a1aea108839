import Linux
import Logging
import Redirection
import Vocabulary
import ZDS

/// Brings what is wanted and what is in place together, one task a workload (see ``Enrolment``).
///
/// Belongs to its event loop: make it and call it there. Work that blocks runs on other threads.
public final class Enroller {
  /// Times of waiting.
  public struct Timing: Sendable {
    /// After a failure, doubling up to ``longestRetry``.
    public var firstRetry: Duration = .milliseconds(500)
    public var longestRetry: Duration = .seconds(30)
    /// Between two looks for a namespace that is not there.
    public var namespacePoll: Duration = .seconds(1)
    /// Between two questions for a certificate that is not there; at first sooner.
    public var identityPoll: Duration = .seconds(5)

    public init() {}
  }

  /// What is proven about each workload.
  public let proofs = EnrolmentProofs()

  /// Cuts off what cannot be proven.
  let fences: Bool
  let loop: EventLoop
  /// What redirection a workload gets that wishes nothing of its own. Changing it brings all to it.
  var defaults: RedirectionSettings { didSet { if defaults != oldValue { verifyAll() } } }
  let announcer: any WorkloadAnnouncing
  let timing: Timing
  let logger: Logger
  let metrics: AgentMetrics?
  private let redirector: any PodRedirecting
  var probes: (any ProbeExempting)?
  private let opener: NamespaceOpener
  private let threads: BlockingThreads
  private var enrolments: [WorkloadUID: Enrolment] = [:]
  private var owners: [NamespaceIdentity: WorkloadUID] = [:]
  private var waiting: [CheckedContinuation<Void, Never>] = []

  public init(
    defaults: RedirectionSettings, redirector: any PodRedirecting, announcer: any WorkloadAnnouncing,
    probes: (any ProbeExempting)? = nil, opener: NamespaceOpener, fences: Bool = true, threads: BlockingThreads,
    timing: Timing = .init(), logger: Logger, metrics: AgentMetrics? = nil, on loop: EventLoop
  ) {
    self.metrics = metrics
    self.defaults = defaults
    self.redirector = redirector
    self.announcer = announcer
    self.probes = probes
    self.opener = opener
    self.fences = fences
    self.threads = threads
    self.timing = timing
    self.logger = logger
    self.loop = loop
  }

  /// Told of each change of a workload's state; nil: the workload is neither wanted nor in place any more.
  public var onChange: ((WorkloadUID, EnrolmentState?) -> Void)?

  /// How far each workload is.
  public var states: [WorkloadUID: EnrolmentState] { enrolments.mapValues(\.state) }

  /// Takes the complete list of what is wanted; what is not in it leaves the mesh.
  public func want(_ workloads: [DesiredWorkload]) {
    let wanted = Dictionary(workloads.map { ($0.uid, $0) }) { first, _ in first }
    for (uid, enrolment) in enrolments { enrolment.want(wanted[uid]) }
    for workload in workloads where enrolments[workload.uid] == nil {
      let enrolment = Enrolment(workload, enroller: self)
      enrolments[workload.uid] = enrolment
      // The task holds the enroller: an enrolment only borrows it.
      loop.spawn { [self] in
        await enrolment.run()
        enrolments[enrolment.uid] = nil
        opener.forgetPod(enrolment.uid.text)
        onChange?(enrolment.uid, nil)
        proofs.publish(nil, of: enrolment.uid)
        progressed()
      }
    }
  }

  /// Proves every enrolled workload again: has its namespace been replaced, do its rules deviate?
  public func verifyAll() {
    for enrolment in enrolments.values { enrolment.verify() }
  }

  /// A ztunnel has the whole snapshot: what failed for want of one is tried at once.
  public func ztunnelCame() {
    for enrolment in enrolments.values { enrolment.ztunnelCame() }
  }

  /// Returns when every workload was tried once, or at the deadline.
  public func firstAttempts(within limit: Duration) async {
    await wait(within: limit) { [self] in enrolments.values.allSatisfy(\.wasTried) }
  }

  /// How far one workload is; nil when it is neither wanted nor in place.
  public func state(of uid: WorkloadUID) -> EnrolmentState? { enrolments[uid]?.state }

  /// The workload as it is wanted now.
  func wanted(_ uid: WorkloadUID) -> DesiredWorkload? { enrolments[uid]?.desired }

  /// What the last try failed for; nil when it did not.
  func trouble(of uid: WorkloadUID) -> EnrolmentError? { enrolments[uid]?.trouble }

  /// The workload just as it was wanted when it was last brought there completely.
  func achieved(_ uid: WorkloadUID) -> DesiredWorkload? { enrolments[uid]?.achieved }

  /// Takes every workload out of the mesh. Returns when all are, or at the deadline; true when all are.
  public func leaveAll(within limit: Duration) async -> Bool {
    want([])
    await wait(within: limit) { [self] in enrolments.isEmpty }
    return enrolments.isEmpty
  }

  private func wait(within limit: Duration, until isDone: () -> Bool) async {
    await wait(until: .now + limit, isDone)
  }

  /// The workload as it was wanted when it was last tried, however that ended.
  func attempted(_ uid: WorkloadUID) -> DesiredWorkload? { enrolments[uid]?.attempted }

  /// Returns when `isDone`, which is asked whenever a workload got somewhere, or at the deadline.
  func wait(until deadline: ContinuousClock.Instant, _ isDone: () -> Bool) async {
    let timer = loop.schedule(at: deadline) { [weak self] in self?.progressed() }
    while !isDone(), ContinuousClock.now < deadline {
      await withCheckedContinuation { waiting.append($0) }
    }
    timer.cancel()
  }

  // MARK: From the enrolments

  func became(_ state: EnrolmentState, _ uid: WorkloadUID) {
    onChange?(uid, state)
    progressed()
  }

  func progressed() {
    metrics?.set(enrolments.values.lazy.map(\.state))
    let continuations = waiting
    waiting = []
    for continuation in continuations { continuation.resume() }
  }

  func owner(of identity: NamespaceIdentity) -> WorkloadUID? { owners[identity] }

  /// Throws ``EnrolmentError/namespaceClaimed(_:by:)``: two workloads in one namespace would each undo the other.
  func claim(_ identity: NamespaceIdentity, for uid: WorkloadUID) throws(EnrolmentError) {
    if let owner = owners[identity], owner != uid { throw .namespaceClaimed(identity, by: owner) }
    owners[identity] = uid
  }

  func release(_ identity: NamespaceIdentity, of uid: WorkloadUID) {
    guard owners[identity] == uid else { return }
    owners[identity] = nil
    // Whoever was refused this namespace may have it now.
    for enrolment in enrolments.values {
      if case .failed(.namespaceClaimed(identity, _), _) = enrolment.state { enrolment.wake() }
    }
  }

  func open(
    _ location: NamespaceLocation, held: NetworkNamespace? = nil
  ) async throws(EnrolmentError) -> NetworkNamespace {
    let opener = opener
    do { return try await threads.run { try opener.open(location, held: held) } } catch {
      throw error as? EnrolmentError ?? .redirection(.init(error))
    }
  }

  func redirection<Value: Sendable>(
    _ body: @escaping @Sendable (any PodRedirecting) throws -> Value
  ) async throws(EnrolmentError) -> Value {
    let redirector = redirector
    do { return try await threads.run { try body(redirector) } } catch {
      throw .redirection(.init(error))
    }
  }

  /// What the node's processes may reach past ztunnel: these addresses are the workload's, and no others.
  func exempt(_ addresses: [IPAddress], of uid: WorkloadUID) async throws(EnrolmentError) {
    guard let probes else { return }
    do {
      if try await threads.run({ try probes.exempt(addresses, of: uid.text) }) {
        logger.info(
          "probes of the node reach it",
          metadata: [
            "uid": "\(uid)", "addresses": "\(addresses.map(\.description).joined(separator: ", "))",
          ])
      }
    } catch { throw .probes(.init(error)) }
  }

  /// Where the node's processes find the workload: as its source says, else what its interfaces have.
  func addresses(of location: NamespaceLocation, in namespace: NetworkNamespace) async throws(EnrolmentError)
    -> [IPAddress]
  {
    guard probes != nil else { return [] }
    if let known = location.addresses { return known }
    do {
      return try await threads.run {
        let found = try namespace.enter { () throws -> Set<IPAddress> in try InterfaceAddresses.current() }
        // fe80::/10 is another machine on every link.
        return found.filter { !$0.isLoopback && !($0.bytes[0] == 0xfe && $0.bytes[1] & 0xc0 == 0x80) }
          .sorted { $0.description < $1.description }
      }
    } catch { throw .probes(.init(error)) }
  }
}
