import Linux
import ZDS

/// Tells ztunnel which workloads to serve. Used on the event loop of the enroller.
public protocol WorkloadAnnouncing: AnyObject {
  /// Returns when ztunnel serves the workload.
  func add(_ uid: WorkloadUID, _ info: WorkloadInfo, in namespace: NetworkNamespace) async throws(ZDSError)
  /// The workload is enrolled, but its namespace is not at hand: what ztunnel runs for it must not be torn down.
  func keep(_ uid: WorkloadUID, _ info: WorkloadInfo) throws(ZDSError)
  /// Whether ztunnel holds a valid certificate for the workload; nil where it does not tell.
  func identity(of uid: WorkloadUID) async -> Bool?
  /// The workload left.
  func delete(_ uid: WorkloadUID) async
}

extension ZDSServer: WorkloadAnnouncing {}
