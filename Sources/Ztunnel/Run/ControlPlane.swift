import GRPC
import HTTP2
import Identity
import Linux
import Logging
import Mesh
import XDS

/// The clients of the control plane. They have a thread of their own, so that a large push delays nobody but the next
/// one (lifecycle.md limit 15).
final class ControlPlane: Sendable {
  private let loop: EventLoop
  // Used on `loop` only, once it runs.
  nonisolated(unsafe) private let buffers = WorkBuffers()
  nonisolated(unsafe) private var client: DeltaClient?
  nonisolated(unsafe) private var watchers: [RootsWatcher] = []
  private let recorder = XDSStatisticsRecorder()

  /// Starts the thread. Throws ``SystemError``.
  init() throws(SystemError) {
    loop = try EventLoop(name: "ztunnel-istiod")
    try loop.start()
  }

  /// The certificate service at `endpoint`.
  func authority(_ endpoint: GRPCEndpoint, lifetime: Duration) -> IstioAuthority {
    IstioAuthority(
      channel: GRPCChannel(endpoint, loop: loop, buffers: buffers), loop: loop, lifetime: lifetime)
  }

  /// Has `changed` called, on any thread, when what the certificate service at `endpoint` is trusted by has changed: then
  /// the trust bundles that it hands out are about to, and what is held is to be asked for anew.
  func watchRoots(of endpoint: GRPCEndpoint, logger: Logger, changed: @escaping @Sendable () -> Void) {
    loop.spawn { [self] in watch(endpoint.roots, logger: logger, changed: changed) }
  }

  private func watch(_ roots: TrustRoots, logger: Logger, changed: @escaping () -> Void) {
    let watcher = RootsWatcher(roots, on: loop, logger: logger, changed: changed)
    watchers.append(watcher)
    watcher.start()
  }

  /// The certificate agent of this machine behind a Unix socket.
  func authority(_ agent: LocalEndpoint) -> SPIFFEAuthority {
    SPIFFEAuthority(channel: GRPCChannel(agent, loop: loop, buffers: buffers), loop: loop)
  }

  /// Time after which what is kept for a restart is confirmed, while the control plane is there.
  private static let confirmation = Duration.seconds(300)

  /// Follows the mesh that the control plane describes, until ``stop()``. `begin`, `publish` and `ready` are called on
  /// `control`; the control plane has its answer when `publish` has returned and `journal`, if any, has it on the disk.
  func follow(
    _ discovery: DiscoveryConfiguration, _ subscription: DeltaSubscription, keeping journal: JournalKeeper?,
    on control: EventLoop, logger: Logger,
    begin: @escaping () -> MeshUpdate, publish: @escaping (MeshUpdate, MeshDelta) async -> Void,
    ready: @escaping () -> Void
  ) {
    // Called on `control` alone.
    nonisolated(unsafe) let (begin, publish, ready) = (begin, publish, ready)
    let owner = MeshOwner(
      begin: { await control.value { begin() } },
      publish: { update in
        let delta = update.delta
        await control.value { await publish(update, delta) }
        // What is large and no longer in force is taken down here, not by whoever let go of it last.
        withExtendedLifetime(delta) {}
      })
    loop.spawn { [self] in
      let client = DeltaClient(
        channel: GRPCChannel(discovery.endpoint, loop: loop, buffers: buffers), subscription: subscription, loop: loop,
        logger: logger, owner: owner, keeper: journal, recorder: recorder,
        ready: {
          control.spawn { ready() }
          journal?.complete()
        })
      self.client = client
      watch(discovery.endpoint.roots, logger: logger) { [unowned client] in client.reopen() }
      if let journal { loop.spawn { await self.confirm(journal, client) } }
      await client.run()
    }
  }

  private func confirm(_ journal: JournalKeeper, _ client: DeltaClient) async {
    while true {
      await loop.sleep(for: Self.confirmation)
      if client.isConnected { journal.confirm() }
    }
  }

  /// How the conversation about the mesh goes. From any thread.
  var statistics: XDSStatistics { recorder.current }

  /// The data path uses the records under the keys of `demand`; unknown ones are asked for. From any thread.
  func demand(_ demand: Demand) {
    loop.spawn { [self] in client?.demand(demand) }
  }

  /// Follows no longer. From any thread.
  func stop() {
    loop.spawn { [self] in
      client?.stop()
      for watcher in watchers { watcher.stop() }
      watchers = []
    }
  }

  /// Ends the thread and waits for its end, as the process exits: libssl must not be in use then. From another thread,
  /// once.
  func end() {
    loop.stop()
    loop.join()
  }
}

extension EventLoop {
  /// Runs `body` on this loop and returns its value on the caller's.
  fileprivate func value<Value: Sendable>(_ body: @escaping () async -> Value) async -> Value {
    // Handed to this loop's thread, and run nowhere else.
    nonisolated(unsafe) let body = body
    return await withUnsafeContinuation { continuation in
      spawn { continuation.resume(returning: await body()) }
    }
  }
}
