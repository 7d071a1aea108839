import IstioAPI
import SwiftProtobuf

/// What the node agent tells ztunnel. Each is answered by exactly one ``ZDSResponse`` (zds.md §2).
public enum ZDSRequest: Equatable, Sendable, CustomStringConvertible {
  /// Run a proxy for this workload, in the network namespace that comes with the packet.
  case add(WorkloadUID, WorkloadInfo)
  /// The workload is enrolled, but its namespace is not at hand: what runs for it goes on running.
  case keep(WorkloadUID)
  /// The workload left: cut its connections.
  case delete(WorkloadUID)
  /// Everything that is enrolled has been named.
  case snapshotSent

  /// Whether exactly one descriptor must come with it (zds.md F1, F2).
  public var carriesNamespace: Bool {
    if case .add = self { true } else { false }
  }

  public var description: String {
    switch self {
    case .add(let uid, let info): "add of \(uid) (\(info))"
    case .keep(let uid): "keep of \(uid)"
    case .delete(let uid): "delete of \(uid)"
    case .snapshotSent: "end of the snapshot"
    }
  }

  /// One packet. Throws ``ZDSError/messageTooLong(bytes:)``.
  public func encoded() throws(ZDSError) -> [UInt8] {
    let message = Istio_Workload_Zds_WorkloadRequest.with {
      switch self {
      case .add(let uid, let info):
        $0.add = .with {
          $0.uid = uid.text
          $0.workloadInfo = .with {
            $0.name = info.name
            $0.namespace = info.namespace
            $0.serviceAccount = info.serviceAccount
          }
        }
      case .keep(let uid): $0.keep = .with { $0.uid = uid.text }
      case .delete(let uid): $0.del = .with { $0.uid = uid.text }
      case .snapshotSent: $0.snapshotSent = .init()
      }
    }
    guard let bytes: [UInt8] = try? message.serializedBytes() else { throw .malformed(message: "WorkloadRequest") }
    guard bytes.count <= PacketSocket.maximumPacket else { throw .messageTooLong(bytes: bytes.count) }
    return bytes
  }

  /// Reads one packet. Throws ``ZDSError``: malformed, empty payload, empty uid, missing workload info.
  public init(decoding bytes: [UInt8]) throws(ZDSError) {
    guard let message = try? Istio_Workload_Zds_WorkloadRequest(serializedBytes: bytes) else {
      throw .malformed(message: "WorkloadRequest")
    }
    switch message.payload {
    case nil: throw .emptyPayload(message: "WorkloadRequest")
    case .add(let add):
      guard let uid = WorkloadUID(add.uid) else { throw .emptyUID(message: "AddWorkload") }
      guard add.hasWorkloadInfo else { throw .missingWorkloadInfo(uid) }
      let info = add.workloadInfo
      self = .add(uid, .init(name: info.name, namespace: info.namespace, serviceAccount: info.serviceAccount))
    case .keep(let keep):
      guard let uid = WorkloadUID(keep.uid) else { throw .emptyUID(message: "KeepWorkload") }
      self = .keep(uid)
    case .del(let delete):
      guard let uid = WorkloadUID(delete.uid) else { throw .emptyUID(message: "DelWorkload") }
      self = .delete(uid)
    case .snapshotSent: self = .snapshotSent
    }
  }
}
