import Synchronization

/// How probes get through now, for whoever asks. Safe from any thread.
final class ProbeModeInForce: Sendable {
  private let mode: Mutex<NodeAgentConfiguration.ProbeMode>

  init(_ mode: NodeAgentConfiguration.ProbeMode) { self.mode = Mutex(mode) }

  var value: NodeAgentConfiguration.ProbeMode {
    get { mode.withLock { $0 } }
    set { mode.withLock { $0 = newValue } }
  }
}
