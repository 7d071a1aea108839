import Linux
import Logging
import Redirection
import Telemetry
import ZDS

/// One workload's way into the mesh and out of it (enrollment.md §5).
///
/// In: namespace open, redirection written and proven, then announced to ztunnel. Capture exists before ztunnel is
/// told, so that nothing ever leaves in plaintext because something was late. Out: the proxy first, then the rules. The
/// reference does it the other way round; but the connections that are open are translated by those rules, and once they
/// are gone no packet of the proxy's, not even a reset, finds its way back to the application, which then waits for ever.
/// New connections are refused for the moment between the two.
///
/// All steps of one workload run one after the other, in a task of its own: a namespace that is slow or broken delays
/// nobody else. Belongs to its event loop.
final class Enrolment {
  /// What is known to be in place.
  private struct Actual {
    let namespace: NetworkNamespace
    /// Where it was found.
    let location: NamespaceLocation
    var settings: RedirectionSettings?
    /// A fence was raised, now or by an earlier run of the agent, and not yet lowered.
    var mayBeFenced = true
    /// What ztunnel was told and has acknowledged.
    var announced: WorkloadInfo?
  }

  let uid: WorkloadUID
  private(set) var state = EnrolmentState.redirecting
  /// The first pass is over, however it ended.
  private(set) var wasTried = false

  /// What was wanted when the last pass ended where it should.
  private(set) var achieved: DesiredWorkload?

  /// What was wanted in the last pass, however it ended.
  private(set) var attempted: DesiredWorkload?

  /// Nil when the workload is not wanted any more.
  private(set) var desired: DesiredWorkload?
  /// What is, or was last, wanted of it.
  private var subject: WorkloadInfo
  private var actual: Actual?
  /// A workload kept outside had its rules looked for, and removed.
  private var isCleared = false
  private var retry: RetryDelay
  /// For a certificate that is not there: most come within moments of the pod.
  private var identityRetry: RetryDelay
  private var record: EnrolmentProof.Record

  private unowned let enroller: Enroller
  private let logger: Logger
  /// Of the namespace in place.
  private var watch: NamespaceWatch?
  private var noticed: LoopTimer?
  /// Changes come in bursts, our own among them.
  private static let gathering: Duration = .milliseconds(200)
  private var changed = false
  private var pause: (timer: LoopTimer?, continuation: CheckedContinuation<Void, Never>)?

  init(_ desired: DesiredWorkload, enroller: Enroller) {
    uid = desired.uid
    self.desired = desired
    subject = desired.info
    self.enroller = enroller
    retry = RetryDelay(first: enroller.timing.firstRetry, longest: enroller.timing.longestRetry)
    identityRetry = RetryDelay(
      first: min(.milliseconds(200), enroller.timing.identityPoll), longest: enroller.timing.identityPoll)
    var logger = enroller.logger
    logger[metadataKey: "workload"] = "\(desired.info)"
    logger[metadataKey: "uid"] = "\(uid)"
    self.logger = logger
    record = EnrolmentProof.Record(since: .now)
    publish()
    keepUntilProven()
  }

  // MARK: From the enroller

  /// What is wanted now; nil: that it leaves.
  func want(_ desired: DesiredWorkload?) {
    guard desired != self.desired else { return }
    self.desired = desired
    if let desired { subject = desired.info }
    isCleared = false
    retry.reset()
    keepUntilProven()
    wake()
  }

  /// Looks again now, or as soon as the pass under way is over.
  func wake() {
    changed = true
    resume()
  }

  private func resume() {
    guard let pause else { return }
    self.pause = nil
    pause.timer?.cancel()
    pause.continuation.resume()
  }

  /// Proves again what was proven before. What failed is tried again in its own time.
  func verify() {
    if actual?.settings != nil { wake() }
  }

  /// A ztunnel has come: what failed for want of one is tried at once.
  func ztunnelCame() {
    if record.code == .pending { wake() }
  }

  /// Works until the workload is neither wanted nor in place.
  func run() async {
    while true {
      changed = false
      let trying = desired
      let delay = await pass()
      attempted = trying
      wasTried = true
      enroller.progressed()
      if desired == nil, actual == nil { return }
      if let delay { if !changed { await wait(for: delay) } } else { await rest() }
    }
  }

  /// Waits until woken, or until another namespace is where this one was: nobody tells when a service was restarted or a
  /// namespace was made anew, and until that is noticed the new one is not captured. Pods have their own notices.
  private func rest() async {
    while !changed {
      guard let actual, actual.location.mayBeReplaced else { return await wait(for: nil) }
      await wait(for: enroller.timing.namespacePoll, isWoken: false)
      guard !changed, let actual = self.actual else { continue }
      do throws(EnrolmentError) {
        let found = try await enroller.open(actual.location, held: actual.namespace)
        if found.identity != actual.namespace.identity { return }
      } catch {
        // What cannot be opened for another reason is the business of the next proof.
        if error.isMissingNamespace { return }
      }
    }
  }

  // MARK: One pass

  /// Brings the workload one whole way forward. Returns when to look again by itself; nil: only when woken.
  private func pass() async -> Duration? {
    do throws(EnrolmentError) {
      guard let desired, desired.inMesh else {
        try await leave()
        achieved = self.desired
        return nil
      }
      try await enrol(desired)
      achieved = desired
      retry.reset()
      enroller.progressed()
      // Nothing tells when the certificate comes.
      guard record.hasIdentity == false else {
        identityRetry.reset()
        return nil
      }
      return identityRetry.delay()
    } catch {
      enroller.metrics?.enrolmentErrors(error.code).add()
      note(failure: error)
      if error.isMissingNamespace {
        become(.waitingForNamespace, logging: error)
        return enroller.timing.namespacePoll
      }
      if error.isMissingZtunnel {
        become(.waitingForZtunnel, logging: error)
        return enroller.timing.longestRetry
      }
      if case .notListening = error {
        become(.waitingForZtunnel, logging: error)
        return retry.delay()
      }
      let delay = retry.delay()
      become(.failed(error, retryIn: delay), logging: error)
      return delay
    }
  }

  private func enrol(_ desired: DesiredWorkload) async throws(EnrolmentError) {
    if state != .announced { become(.redirecting) }
    let namespace = try await currentNamespace(desired.location)
    FaultPoint.reached("namespace-found", with: subject.name)
    try enroller.claim(namespace.identity, for: uid)
    if actual == nil {
      actual = Actual(namespace: namespace, location: desired.location)
      watchForChanges(in: namespace)
    }
    let settings = enroller.defaults.adjusted(by: desired.annotations)
    var proof = try await redirect(settings, in: namespace)
    if actual?.announced != desired.info {
      enroller.metrics?.reconcileEvents(actual?.announced == nil ? "add" : "update").add()
      do { try await enroller.announcer.add(uid, desired.info, in: namespace) } catch { throw .announcement(error) }
      FaultPoint.reached("announced", with: subject.name)
      actual?.announced = desired.info
      logger.info("enrolled", metadata: ["namespace": "\(namespace.identity)"])
      // Now ztunnel must listen.
      proof = try await prove(settings, in: namespace)
      record.take(identity: await enroller.announcer.identity(of: uid))
      note(.captured(proof, isAcknowledged: true))
    } else {
      let hasIdentity = await enroller.announcer.identity(of: uid)
      if hasIdentity != record.hasIdentity {
        record.take(identity: hasIdentity)
        note(.captured(proof, isAcknowledged: true))
      }
    }
    // Whoever waits for the workload to be served is not told so on ztunnel's word alone, nor is it ever again when its
    // listeners have gone.
    guard proof.missingListeners.isEmpty else { throw .notListening(proof.missingListeners) }
    try await enroller.exempt(try await enroller.addresses(of: desired.location, in: namespace), of: uid)
    FaultPoint.reached("probes-exempt", with: subject.name)
    become(.announced)
  }

  /// Opens the namespace as it is now. When the one in place is gone, or another one has its name, ztunnel learns it.
  private func currentNamespace(_ location: NamespaceLocation) async throws(EnrolmentError) -> NetworkNamespace {
    let found: NetworkNamespace
    do throws(EnrolmentError) { found = try await enroller.open(location, held: actual?.namespace) } catch {
      if error.isMissingNamespace, actual != nil {
        logger.info("the namespace is gone", metadata: ["path": "\(location)"])
        await forgetActual()
      }
      throw error
    }
    guard let actual else { return found }
    if actual.namespace.identity == found.identity { return actual.namespace }
    logger.info(
      "the namespace was replaced",
      metadata: ["old": "\(actual.namespace.identity)", "new": "\(found.identity)"])
    // Told to look elsewhere, rather than finding another one in its place: the old one lives on, outside the mesh.
    if actual.location != location { try await remove(from: actual.namespace) }
    await forgetActual()
    return found
  }

  /// Makes the namespace what it should be, behind a fence while it is not, and says so only when it is proven.
  private func redirect(
    _ settings: RedirectionSettings, in namespace: NetworkNamespace
  ) async throws(EnrolmentError) -> NamespaceProof {
    var proof: NamespaceProof
    do throws(EnrolmentError) {
      proof = try await enroller.redirection { try $0.prove(settings, in: namespace) }
    } catch {
      await fence(settings, namespace, .unreadable, because: [error.summary])
      throw error
    }
    if !proof.deviations.isEmpty {
      record.observe(proof)
      try await write(settings, in: namespace, against: proof.deviations)
      proof = try await prove(settings, in: namespace)
    }
    if actual?.mayBeFenced == true {
      let wasFenced = try await enroller.redirection { try $0.lowerFence(in: namespace) }
      FaultPoint.reached("fence-lowered", with: subject.name)
      actual?.mayBeFenced = false
      if wasFenced { logger.info("the fence is down") }
    }
    actual?.settings = settings
    note(.captured(proof, isAcknowledged: actual?.announced == desired?.info))
    return proof
  }

  private func write(
    _ settings: RedirectionSettings, in namespace: NetworkNamespace, against deviations: [RedirectionDeviation]
  ) async throws(EnrolmentError) {
    if actual?.settings == settings {
      enroller.metrics?.ruleRepairs.add()
      logger.warning(
        "redirection deviated and is repaired",
        metadata: ["deviations": "\(deviations.prefix(10).map(\.description).joined(separator: "; "))"])
    }
    let reason: FenceReason = actual?.settings == nil ? .notWritten : .deviation
    // Until it is proven again it is not in place.
    actual?.settings = nil
    await fence(settings, namespace, reason, because: deviations.map(\.description))
    FaultPoint.reached("fence-raised", with: subject.name)
    let report = try await enroller.redirection { try $0.apply(settings, in: namespace) }
    FaultPoint.reached("rules-written", with: subject.name)
    if !report.changed.isEmpty {
      logger.info("redirection written", metadata: ["changed": "\(report.changed.joined(separator: ", "))"])
    }
    for degradation in report.degradations { logger.warning("\(degradation)") }
  }

  /// Looks again. What is not as it should be now was changed by somebody this moment, and is repaired at the next try.
  private func prove(
    _ settings: RedirectionSettings, in namespace: NetworkNamespace
  ) async throws(EnrolmentError) -> NamespaceProof {
    let proof = try await enroller.redirection { try $0.prove(settings, in: namespace) }
    guard proof.deviations.isEmpty else {
      await fence(settings, namespace, .deviation, because: proof.deviations.map(\.description))
      throw .redirection(.init(RedirectionError.notProven(proof.deviations)))
    }
    return proof
  }

  /// Cuts the workload off. That it cannot be is no reason to stop trying to get it captured.
  private func fence(
    _ settings: RedirectionSettings, _ namespace: NetworkNamespace, _ reason: FenceReason, because reasons: [String]
  ) async {
    var isFenced = false
    if enroller.fences {
      // Set first: a raising that fails half way is to be lowered, too.
      actual?.mayBeFenced = true
      do throws(EnrolmentError) {
        let isNew = try await enroller.redirection { try $0.raiseFence(settings, in: namespace) }
        isFenced = true
        if isNew {
          enroller.metrics?.fences(reason.rawValue).add()
          logger.info("fenced until it is proven to be captured", metadata: ["reason": "\(reason.rawValue)"])
        }
      } catch { logger.error("the fence cannot be raised: \(error)") }
    }
    note(.unproven(reasons, isFenced: isFenced))
  }

  /// Out of the mesh: the proxy first, then the rules.
  private func leave() async throws(EnrolmentError) {
    if let namespace = actual?.namespace {
      become(.leaving)
      enroller.metrics?.reconcileEvents("delete").add()
      note(.leaving)
      // First of all: what is on its way out of the mesh is no longer exempt from anything.
      try await enroller.exempt([], of: uid)
      actual?.announced = nil
      await enroller.announcer.delete(uid)
      do throws(EnrolmentError) { try await remove(from: namespace) } catch {
        // A namespace that is not the workload's any more needs no rules removed; anything else is tried again, and the
        // workload reaches nobody meanwhile.
        let isStillThere = if let desired { try? await enroller.open(desired.location) } else { namespace }
        if isStillThere?.identity == namespace.identity { throw error }
      }
      actual = nil
      unwatch()
      enroller.release(namespace.identity, of: uid)
      logger.info("left the mesh")
    } else if let desired, !isCleared {
      // An earlier run of the agent may have enrolled it. What another workload is enrolled in stays as it is.
      if let namespace = try await opened(desired.location), enroller.owner(of: namespace.identity) == nil {
        try await remove(from: namespace)
      }
      await enroller.announcer.delete(uid)
    } else if desired == nil {
      await enroller.announcer.delete(uid)
    }
    isCleared = true
    note(.outside)
    become(.outside)
  }

  /// A file that is not there has no rules in it; a pod that is not found may have: it is looked for until it is, or
  /// nobody speaks of it any more.
  private func opened(_ location: NamespaceLocation) async throws(EnrolmentError) -> NetworkNamespace? {
    if case .pod = location { return try await enroller.open(location) }
    return try? await enroller.open(location)
  }

  private func remove(from namespace: NetworkNamespace) async throws(EnrolmentError) {
    do throws(EnrolmentError) {
      let report = try await enroller.redirection { try $0.remove(from: namespace) }
      if !report.changed.isEmpty {
        logger.info("redirection removed", metadata: ["changed": "\(report.changed.joined(separator: ", "))"])
      }
    } catch {
      guard case .redirection(let cause) = error else { throw error }
      throw .removal(cause)
    }
  }

  private func forgetActual() async {
    guard let actual else { return }
    self.actual = nil
    unwatch()
    do throws(EnrolmentError) { try await enroller.exempt([], of: uid) } catch { logger.error("\(error)") }
    await enroller.announcer.delete(uid)
    enroller.release(actual.namespace.identity, of: uid)
  }

  /// A ztunnel that outlived the agent may run this workload: until the agent has its namespace, it is told to go on.
  private func keepUntilProven() {
    guard let desired, desired.inMesh, actual == nil else { return }
    do { try enroller.announcer.keep(uid, desired.info) } catch { logger.error("\(error)") }
  }

  // MARK: Changes

  /// Where the kernel tells of changes, they are repaired at once. Where it does not, the timer finds them.
  private func watchForChanges(in namespace: NetworkNamespace) {
    do {
      watch = try NamespaceWatch(namespace, on: enroller.loop) { [weak self] in
        guard let self, noticed == nil else { return }
        noticed = enroller.loop.schedule(after: Self.gathering) { [weak self] in
          self?.noticed = nil
          self?.verify()
        }
      }
    } catch { logger.debug("changes in the namespace are found on a timer only: \(error)") }
  }

  private func unwatch() {
    watch?.cancel()
    watch = nil
    noticed?.cancel()
    noticed = nil
  }

  // MARK: What is proven

  private func note(_ finding: EnrolmentProof.Record.Finding) {
    let isNew = record.take(finding, at: .now)
    publish()
    if isNew {
      // Rules that ztunnel has not been told of yet, and a certificate that was asked for just now, are on their way, not
      // in trouble.
      let lostListeners = actual?.announced != nil && !record.missingListeners.isEmpty
      let isTrouble = record.code == .exposed || record.code == .pending && lostListeners
      logger.log(
        level: isTrouble ? .warning : .debug, "proof: \(record.code.rawValue)",
        metadata: record.missingListeners.isEmpty
          ? [:] : ["not_listened_on": "\(record.missingListeners.map(String.init).joined(separator: ", "))"])
      enroller.became(state, uid)
    }
  }

  /// What the steps on the way have not noted themselves.
  private func note(failure error: EnrolmentError) {
    if error.isMissingNamespace { return note(.noNamespace) }
    switch error {
    case .redirection, .announcement, .notListening, .removal, .probes: break
    default: note(.unproven([error.summary], isFenced: false))
    }
  }

  private func publish() {
    enroller.proofs.publish(
      EnrolmentProof(
        uid: uid, workload: subject, namespace: actual?.namespace.identity, code: record.code, since: record.since,
        lastProven: record.lastProven, deviations: record.deviations, missingListeners: record.missingListeners,
        hasIdentity: record.hasIdentity, escapedPackets: record.escapes.total, stoppedPackets: record.stops.total),
      of: uid)
  }

  // MARK: State and waiting

  private func become(_ next: EnrolmentState, logging error: EnrolmentError? = nil) {
    if let error {
      // Once a reason, not once a try.
      var isExpected = error.isMissingNamespace || error.isMissingZtunnel
      if case .notListening = error { isExpected = true }
      logger.log(
        level: trouble == error ? .debug : isExpected ? .notice : .error, "\(next)",
        metadata: isExpected ? ["reason": "\(error.summary)"] : [:])
      trouble = error
    } else if next == .announced || next == .outside {
      trouble = nil
    }
    guard state != next else { return }
    state = next
    enroller.became(next, uid)
  }

  /// The last failure, until the workload got where it should be.
  private(set) var trouble: EnrolmentError?

  /// Suspends until woken, or for `delay`. Its end is a change like any other, unless `isWoken` is false.
  private func wait(for delay: Duration?, isWoken: Bool = true) async {
    await withCheckedContinuation { continuation in
      let timer = delay.map {
        enroller.loop.schedule(after: $0) { [weak self] in if isWoken { self?.wake() } else { self?.resume() } }
      }
      pause = (timer, continuation)
    }
  }
}
