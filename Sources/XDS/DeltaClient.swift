import CLinux
import GRPC
import IstioAPI
import Linux
import Logging
import Mesh

/// Where a ``DeltaClient`` makes its changes.
///
/// One update is under way at a time. It is put together on the client's loop, a portion at a time; nobody sees it before
/// it is published.
public struct MeshOwner: Sendable {
  /// Returns an update of the mesh of now.
  let begin: @Sendable () async -> MeshUpdate
  /// Makes an update the mesh of now, and returns when it is in force for everybody.
  let publish: @Sendable (MeshUpdate) async -> Void

  public init(
    begin: @escaping @Sendable () async -> MeshUpdate, publish: @escaping @Sendable (MeshUpdate) async -> Void
  ) {
    self.begin = begin
    self.publish = publish
  }
}

/// Keeps a stream to the control plane, for ever. Belongs to its channel's loop.
public final class DeltaClient {
  private let channel: GRPCChannel
  private let loop: EventLoop
  private let logger: Logger
  private let owner: MeshOwner
  private let keeper: (any ResponseKeeper)?
  private let ready: () -> Void
  private let recorder: XDSStatisticsRecorder
  private var subscription: DeltaSubscription
  private var call: GRPCCall?
  private var isStopped = false
  /// Whether a stream is open, so that what is known is what the control plane says.
  public var isConnected: Bool { call != nil }
  /// Keeps a response and the giving back of what is idle apart.
  private let gate = LoopGate()
  private var releaseTimer: LoopTimer?
  private var isReleasing = false
  private var demands: [Demand] = []
  private var answerTimer: LoopTimer?
  private var patience = AnswerPatience()
  /// The stream of now is being replaced, for a reason that is no failure.
  private var isReopening = false

  static let method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
  /// Resources taken between two looks at the clock.
  private static let portion = 32
  /// Portions that wait to be kept, at most: a slow disk must not have a response in memory a second time.
  private static let mostUnwritten = 64
  /// Work on a response after which the loop's other tasks have their turn.
  private static let turn = Duration.milliseconds(2)
  /// How often it is looked for what nobody uses any more.
  private static let releasePeriod = Duration.seconds(60)
  /// A response of more resources leaves so much freed memory behind that it is worth giving back.
  private static let largeResponse = 4096

  /// `ready` is called once, when each type was processed. `keeper` is used for a subscription that retains. `recorder`
  /// keeps the statistics, for those who have no client at hand.
  public init(
    channel: GRPCChannel, subscription: DeltaSubscription, loop: EventLoop, logger: Logger, owner: MeshOwner,
    keeper: (any ResponseKeeper)? = nil, recorder: XDSStatisticsRecorder = XDSStatisticsRecorder(),
    ready: @escaping () -> Void
  ) {
    self.channel = channel
    self.loop = loop
    self.logger = logger
    self.owner = owner
    self.keeper = keeper
    self.recorder = recorder
    self.ready = ready
    self.subscription = subscription
  }

  /// How it has gone so far. From any thread.
  public nonisolated var statistics: XDSStatistics { recorder.current }

  /// Runs until ``stop()``: streams one after the other, with pauses.
  public func run() async {
    var backoff = StreamBackoff()
    var number = 0
    if subscription.mode == .onDemand { scheduleRelease() }
    while !isStopped {
      number += 1
      let start = ContinuousClock.now
      let end = await stream(number)
      call = nil
      answerTimer?.cancel()
      answerTimer = nil
      let wasOpen = recorder.current.connectedSince != nil
      recorder.update {
        $0.terminations[.init(end, wasOpen: wasOpen), default: 0] += 1
        $0.connectedSince = nil
      }
      if isStopped { return }
      if isReopening {
        isReopening = false
        continue
      }
      let pause = backoff.pause(after: start.duration(to: .now), random: Double.random(in: 0..<1))
      logger.warning(
        "the control plane's stream ended; what is known stays in force",
        metadata: ["id": "\(number)", "error": "\(explain(end, wasOpen: wasOpen))", "retry_in": "\(pause)"])
      await loop.sleep(for: pause)
    }
  }

  /// Ends the stream and makes no other.
  public func stop() {
    isStopped = true
    releaseTimer?.cancel()
    call?.cancel()
    channel.close()
  }

  /// Why a stream ended, and what that changes about the next one.
  private func explain(_ end: GRPCStatus, wasOpen: Bool) -> StreamError {
    if !wasOpen, let limit = patience.exceeded { return .unanswered(after: limit) }
    guard end.status == .resourceExhausted else { return .ended(end) }
    if subscription.refusedForSize() {
      logger.warning(
        "the control plane does not take so many names at once: it is asked for everything, and what does not come is gone"
      )
      return .ended(end)
    }
    return wasOpen ? .ended(end) : .subscriptionRefused(end)
  }

  /// Makes a new stream on a new connection, because of what is trusted from now on. What is known stays in force.
  public func reopen() {
    guard !isStopped else { return }
    channel.reconnect()
    guard let call else { return }
    isReopening = true
    call.cancel()
  }

  private func awaitAnswer(on call: GRPCCall) {
    let limit = patience.begin()
    answerTimer = loop.schedule(after: limit) { [weak self] in
      self?.patience.exceed()
      call.cancel()
    }
  }

  /// One stream from beginning to end.
  private func stream(_ number: Int) async -> GRPCStatus {
    do throws(GRPCStatus) {
      let call = try await channel.call(Self.method)
      // No names may be sent before the first request says who asks.
      for request in subscription.opened() { send(request, on: call) }
      self.call = call
      if isStopped { call.cancel() }
      awaitAnswer(on: call)
      logger.info(
        "connected to the control plane", metadata: ["id": "\(number)", "address": "\(channel.name)"])
      while let message = try await call.receive() {
        recorder.update { $0.connectedSince = $0.connectedSince ?? .now }
        answerTimer?.cancel()
        patience.answered()
        guard let response = try? DeltaResponse(message) else {
          call.cancel()
          return GRPCStatus(.internalError, "the control plane sent a response that cannot be decoded")
        }
        logger.debug(
          "response",
          metadata: [
            "type": "\(response.typeURL)", "resources": "\(response.resourceCount)",
            "removed": "\(response.removedCount)", "bytes": "\(message.count)",
          ])
        await gate.pass { await take(response) }
      }
      return GRPCStatus(.ok, "the control plane ended the stream")
    } catch {
      return error
    }
  }

  // MARK: Responses

  private func take(_ response: DeltaResponse) async {
    let isLarge = response.resourceCount + response.removedCount > Self.largeResponse
    var intake = DeltaIntake(response)
    var update = await owner.begin()
    var turnEnd = ContinuousClock.now + Self.turn
    while !intake.isFinished {
      perform(subscription.take(&intake, atMost: Self.portion), &update)
      guard ContinuousClock.now >= turnEnd else { continue }
      // Pings, and those who need a certificate.
      await loop.letOthersRun()
      await keeper?.settle(leaving: Self.mostUnwritten)
      turnEnd = .now + Self.turn
    }
    update.apply(subscription.settleFound(in: update.snapshot))
    keeper?.commit()
    await owner.publish(update)
    await keeper?.settle(leaving: 0)
    perform(subscription.finish(intake), &update)
    record(intake)
    if isLarge { malloc_trim(0) }
  }

  private func record(_ intake: DeltaIntake) {
    let counts = ResourceType.allCases.map { ($0, subscription.count(of: $0)) }
    recorder.update { statistics in
      if let type = intake.type {
        statistics.messages[type, default: .init()].count += 1
        statistics.messages[type, default: .init()].bytes += UInt64(intake.contentBytes)
      }
      statistics.resources = Dictionary(uniqueKeysWithValues: counts)
      statistics.lastAnswer = .now
      guard !intake.reasons.isEmpty else { return }
      statistics.rejectedResponses += 1
      statistics.rejectionTime = .now
      statistics.rejectionReasons = intake.reasons.prefix(10).joined(separator: "; ")
    }
  }

  private func perform(_ actions: [DeltaSubscription.Action], _ update: inout MeshUpdate) {
    for action in actions {
      switch action {
      case .send(let request):
        if let call { send(request, on: call) }
      case .retain(let portion): keeper?.retain(portion)
      case .apply(let changes): update.apply(changes)
      case .report(let type, let name, let reason):
        recorder.update { $0.rejectedResources[type, default: 0] += 1 }
        logger.warning(
          "resource rejected; the last good version of it stays, and a policy without one denies",
          metadata: ["type": "\(type.name)", "name": "\(name)", "error": "\(reason)"])
      case .reportUnknownType(let url):
        logger.warning("response of a type that was not subscribed to", metadata: ["type": "\(url)"])
      case .ready: ready()
      }
    }
  }

  private func send(_ request: DeltaSubscription.Request, on call: GRPCCall) {
    // Fails only for text that is not UTF-8, which a string cannot hold.
    guard let bytes: [UInt8] = try? request.serializedBytes() else { return }
    call.send(bytes)
  }

  // MARK: On demand

  /// The data path uses the keys of `demand`: those that are new are asked for, in one request with all that is demanded
  /// in this turn of the loop; now, or as soon as there is a stream.
  public func demand(_ demand: Demand) {
    demands.append(demand)
    if demands.count == 1 { loop.spawn { [self] in ask() } }
  }

  private func ask() {
    let requests = subscription.demand(demands, at: .now)
    demands = []
    if let call { for request in requests { send(request, on: call) } }
    if subscription.holdsTooMuch { release() }
  }

  private func scheduleRelease() {
    releaseTimer = loop.schedule(after: Self.releasePeriod) { [weak self] in
      self?.release()
      self?.scheduleRelease()
    }
  }

  private func release() {
    guard !isReleasing else { return }
    isReleasing = true
    loop.spawn { [self] in
      await gate.pass {
        var update = await owner.begin()
        let actions = subscription.release(from: update.snapshot, at: .now)
        perform(actions, &update)
        await owner.publish(update)
      }
      isReleasing = false
    }
  }
}
