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

  /// The certificate agent of this machine behind a Unix socket.
  func authority(_ agent: LocalEndpoint) -> SPIFFEAuthority {
    SPIFFEAuthority(channel: GRPCChannel(agent, loop: loop, buffers: buffers), loop: loop)
  }

  /// Time after which what is kept for a restart is confirmed, while the control plane is there.
  private static let confirmation = Duration.seconds(300)

  /// Follows the mesh that the control plane describes, until ``stop()``. `apply` and `ready` are called on `control`;
  /// the control plane has its answer when `apply` has returned. `journal`, if any, is this object's from now on.
  func follow(
    _ discovery: DiscoveryConfiguration, _ subscription: DeltaSubscription, keeping journal: MeshJournal?,
    on control: EventLoop, logger: Logger, metrics: ZtunnelMetrics, apply: @escaping ([MeshChange]) async -> Void,
    ready: @escaping () -> Void
  ) {
    // Called on `control` alone.
    nonisolated(unsafe) let apply = apply
    nonisolated(unsafe) let ready = ready
    // Made by the caller, and used on `loop` alone from here on.
    nonisolated(unsafe) let journal = journal
    loop.spawn { [self] in
      let client = DeltaClient(
        channel: GRPCChannel(discovery.endpoint, loop: loop, buffers: buffers), subscription: subscription, loop: loop,
        logger: logger, retain: { journal?.append($0) },
        apply: { changes in
          await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            control.spawn {
              await apply(changes)
              continuation.resume()
            }
          }
        },
        ready: {
          control.spawn { ready() }
          journal?.complete()
        }, observe: { metrics.count($0) })
      self.client = client
      if let journal { loop.spawn { await self.confirm(journal, client) } }
      await client.run()
    }
  }

  private func confirm(_ journal: MeshJournal, _ client: DeltaClient) async {
    while true {
      await loop.sleep(for: Self.confirmation)
      if client.isConnected { journal.confirm() }
    }
  }

  /// Follows no longer. From any thread.
  func stop() {
    loop.spawn { [self] in client?.stop() }
  }

  /// Ends the thread and waits for its end, as the process exits: libssl must not be in use then. From another thread,
  /// once.
  func end() {
    loop.stop()
    loop.join()
  }
}
