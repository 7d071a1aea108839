import Synchronization
import ZDS

/// What is proven about every workload, for whoever asks: the status, metrics, annotations. Safe from any thread.
public final class EnrolmentProofs: Sendable {
  private let proofs = Mutex<[WorkloadUID: EnrolmentProof]>([:])

  public init() {}

  /// All of them now, sorted by uid.
  public var all: [EnrolmentProof] { proofs.withLock { Array($0.values) }.sorted { $0.uid < $1.uid } }

  public subscript(uid: WorkloadUID) -> EnrolmentProof? { proofs.withLock { $0[uid] } }

  /// Nil: the workload is neither wanted nor in place any more.
  func publish(_ proof: EnrolmentProof?, of uid: WorkloadUID) { proofs.withLock { $0[uid] = proof } }
}
