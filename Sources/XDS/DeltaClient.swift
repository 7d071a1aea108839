import GRPC
import IstioAPI
import Linux
import Logging
import Mesh

/// What happens to a ``DeltaClient``, for those who count.
public enum DeltaClientEvent: Sendable {
  /// A stream is open.
  case connected
  /// A response, with the sum of its resources' sizes.
  case received(typeURL: String, bytes: Int)
  case rejected(ResourceType)
  /// A stream has ended, or could not be opened.
  case ended(GRPCStatus, wasConnected: Bool)
}

/// Keeps a stream to the control plane, for ever. Belongs to its channel's loop.
public final class DeltaClient {
  /// Keeps what is known, for a restart.
  public typealias Retain = (Envoy_Service_Discovery_V3_DeltaDiscoveryResponse) -> Void
  /// Makes changes and returns when they are in force.
  public typealias Apply = ([MeshChange]) async -> Void

  private let channel: GRPCChannel
  private let loop: EventLoop
  private let logger: Logger
  private let apply: Apply
  private let retain: Retain?
  private let ready: () -> Void
  private let observe: (DeltaClientEvent) -> Void
  private var subscription: DeltaSubscription
  private var call: GRPCCall?
  private var isStopped = false
  private var hasConnected = false
  /// Whether a stream is open, so that what is known is what the control plane says.
  public var isConnected: Bool { call != nil }

  static let method = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"

  /// `ready` is called once, when each type was processed. `retain` is called for a subscription that
  /// retains; `observe` whenever something happens.
  public init(
    channel: GRPCChannel, subscription: DeltaSubscription, loop: EventLoop, logger: Logger, retain: Retain? = nil,
    apply: @escaping Apply, ready: @escaping () -> Void, observe: @escaping (DeltaClientEvent) -> Void = { _ in }
  ) {
    self.observe = observe
    self.retain = retain
    self.channel = channel
    self.loop = loop
    self.logger = logger
    self.apply = apply
    self.ready = ready
    self.subscription = subscription
  }

  /// Runs until ``stop()``: streams one after the other, with pauses.
  public func run() async {
    var backoff = StreamBackoff()
    var number = 0
    while !isStopped {
      number += 1
      let start = ContinuousClock.now
      hasConnected = false
      let end = await stream(number)
      call = nil
      observe(.ended(end, wasConnected: hasConnected))
      if isStopped { return }
      let pause = backoff.pause(after: start.duration(to: .now), random: Double.random(in: 0..<1))
      logger.warning(
        "the control plane's stream ended; what is known stays in force",
        metadata: ["id": "\(number)", "error": "\(end)", "retry_in": "\(pause)"])
      await loop.sleep(for: pause)
    }
  }

  /// Ends the stream and makes no other.
  public func stop() {
    isStopped = true
    call?.cancel()
    channel.close()
  }

  /// One stream from beginning to end.
  private func stream(_ number: Int) async -> GRPCStatus {
    do throws(GRPCStatus) {
      let call = try await channel.call(Self.method)
      self.call = call
      if isStopped { call.cancel() }
      logger.info(
        "connected to the control plane", metadata: ["id": "\(number)", "address": "\(channel.name)"])
      hasConnected = true
      observe(.connected)
      await perform(subscription.receive(.opened), on: call)
      while let message = try await call.receive() {
        let response: Envoy_Service_Discovery_V3_DeltaDiscoveryResponse
        do { response = try .init(serializedBytes: message) } catch {
          call.cancel()
          return GRPCStatus(.internalError, "the control plane sent a response that cannot be decoded")
        }
        observe(
          .received(
            typeURL: ResourceType(rawValue: response.typeURL)?.rawValue ?? "other",
            bytes: response.resources.reduce(0) { $0 + $1.resource.value.count }))
        logger.debug(
          "response",
          metadata: [
            "type": "\(response.typeURL)", "resources": "\(response.resources.count)",
            "removed": "\(response.removedResources.count)", "bytes": "\(message.count)",
          ])
        await perform(subscription.receive(.received(response)), on: call)
      }
      return GRPCStatus(.ok, "the control plane ended the stream")
    } catch {
      return error
    }
  }

  private func perform(_ actions: [DeltaSubscription.Action], on call: GRPCCall) async {
    for action in actions {
      switch action {
      case .send(let request):
        // Fails only for text that is not UTF-8, which a string cannot hold.
        guard let bytes: [UInt8] = try? request.serializedBytes() else { continue }
        call.send(bytes)
      case .retain(let response): retain?(response)
      case .apply(let changes): await apply(changes)
      case .report(let type, let name, let reason):
        observe(.rejected(type))
        logger.warning(
          "resource rejected; the last good version of it stays, and a policy without one denies",
          metadata: ["type": "\(type.name)", "name": "\(name)", "error": "\(reason)"])
      case .reportUnknownType(let url):
        logger.warning("response of a type that was not subscribed to", metadata: ["type": "\(url)"])
      case .ready: ready()
      }
    }
  }
}
