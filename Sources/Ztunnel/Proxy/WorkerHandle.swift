import Linux
import Mesh

/// A worker as other threads see it: something to be asked to run code on its own thread.
struct WorkerHandle: Sendable {
  private let loop: EventLoop
  // Made here, then touched by its own loop's thread only.
  nonisolated(unsafe) private let worker: Worker
  let burden = WorkerLoad()

  /// Makes a worker and starts its thread. Throws ``SystemError``.
  init(index: Int, context: WorkerContext, mesh: MeshSnapshot) throws(SystemError) {
    loop = try EventLoop(name: "ztunnel-\(index)")
    worker = Worker(index: index, loop: loop, context: context, mesh: mesh, burden: burden)
    try loop.start()
  }

  /// Runs `body` on the worker's thread and returns its value on the caller's.
  func run<Value: Sendable>(_ body: @escaping @Sendable (Worker) async -> Value) async -> Value {
    await withCheckedContinuation { continuation in
      loop.spawn { continuation.resume(returning: await body(worker)) }
    }
  }

  /// Ends the worker's thread and waits for its end; what still waits there never goes on. From another thread, once.
  func stop() {
    loop.stop()
    loop.join()
  }

  /// Runs `body` on the worker's thread some time from now.
  func post(_ body: @escaping @Sendable (Worker) -> Void) {
    loop.spawn { body(worker) }
  }

  /// The same for a body that suspends.
  func postTask(_ body: @escaping @Sendable (Worker) async -> Void) {
    loop.spawn { await body(worker) }
  }
}
