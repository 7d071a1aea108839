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

  /// Follows the mesh that the control plane describes, until ``stop()``. `apply` and `ready` are called on `control`;
  /// the control plane has its answer when `apply` has returned.
  func follow(
    _ discovery: DiscoveryConfiguration, on control: EventLoop, logger: Logger, metrics: ZtunnelMetrics,
    apply: @escaping ([MeshChange]) async -> Void, ready: @escaping () -> Void
  ) {
    // Called on `control` alone.
    nonisolated(unsafe) let apply = apply
    nonisolated(unsafe) let ready = ready
    loop.spawn { [self] in
      let client = DeltaClient(
        channel: GRPCChannel(discovery.endpoint, loop: loop, buffers: buffers), node: discovery.node, loop: loop,
        logger: logger,
        apply: { changes in
          await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
            control.spawn {
              await apply(changes)
              continuation.resume()
            }
          }
        }, ready: { control.spawn { ready() } }, observe: { metrics.count($0) })
      self.client = client
      await client.run()
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
