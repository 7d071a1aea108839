import Synchronization
import ZDS

/// What is proven about every workload, for whoever asks: the status, metrics, annotations. Safe from any thread.
public final class EnrolmentProofs: Sendable {
  private struct State {
    var proofs: [WorkloadUID: EnrolmentProof] = [:]
    /// What was counted for workloads that are gone.
    var escapedOfGone: UInt64 = 0
    var stoppedOfGone: UInt64 = 0
  }

  private let state = Mutex(State())

  public init() {}

  /// All of them now, sorted by uid.
  public var all: [EnrolmentProof] { state.withLock { Array($0.proofs.values) }.sorted { $0.uid < $1.uid } }

  public subscript(uid: WorkloadUID) -> EnrolmentProof? { state.withLock { $0.proofs[uid] } }

  /// Packets that left any workload past ztunnel since the agent started, those that are gone included.
  public var escapedPackets: UInt64 {
    state.withLock { state in
      state.proofs.values.reduce(state.escapedOfGone) { $0 &+ ($1.escapedPackets ?? 0) }
    }
  }

  /// Packets that would have gone past ztunnel and were dropped, counted like ``escapedPackets``.
  public var stoppedPackets: UInt64 {
    state.withLock { state in
      state.proofs.values.reduce(state.stoppedOfGone) { $0 &+ ($1.stoppedPackets ?? 0) }
    }
  }

  /// Nil: the workload is neither wanted nor in place any more.
  func publish(_ proof: EnrolmentProof?, of uid: WorkloadUID) {
    state.withLock { state in
      let last = state.proofs.updateValue(proof, of: uid)
      guard proof == nil, let last else { return }
      state.escapedOfGone &+= last.escapedPackets ?? 0
      state.stoppedOfGone &+= last.stoppedPackets ?? 0
    }
  }
}

extension [WorkloadUID: EnrolmentProof] {
  /// Sets or removes, and gives what was there.
  fileprivate mutating func updateValue(_ proof: EnrolmentProof?, of uid: WorkloadUID) -> EnrolmentProof? {
    if let proof { updateValue(proof, forKey: uid) } else { removeValue(forKey: uid) }
  }
}
