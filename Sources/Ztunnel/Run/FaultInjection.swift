#if DEBUG
  import Glibc
  import Linux

  /// Faults that tests ask for, in debug builds alone.
  enum FaultInjection {
    /// With `AMBIENT_FAULTS=stall-worker`, SIGUSR2 has the first worker stuck for good.
    static var isEnabled: Bool {
      getenv("AMBIENT_FAULTS").map { String(cString: $0) } == "stall-worker"
    }

    static func stall(_ worker: WorkerHandle) {
      worker.post { _ in while true { pause() } }
    }
  }
#endif
