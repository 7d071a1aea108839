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
  /// Take new connections, or leave them to another ztunnel. Only for a ztunnel that knows ``Handover``.
  case duty(Handover.Duty)
  /// Does it hold a valid certificate for this workload? Only for a ztunnel that says that it tells.
  case identity(WorkloadUID)

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
    case .duty(.accept): "request to accept"
    case .duty(.rest): "request to rest"
    case .identity(let uid): "question for the identity of \(uid)"
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
      case .duty(let duty): $0.handover = Handover(duty: duty).message
      case .identity(let uid): $0.handover = .with { $0.identityOf = uid.text }
      }
    }
    guard let bytes: [UInt8] = try? message.serializedBytes() else { throw .malformed(message: "WorkloadRequest") }
    guard bytes.count <= PacketSocket.maximumPacket else { throw .messageTooLong(bytes: bytes.count) }
    return bytes
  }

  /// Reads one packet. Throws ``ZDSError``: malformed, empty payload, empty uid, missing workload info.
  public init(decoding bytes: [UInt8]) throws(ZDSError) {
    self = try Self.decode(bytes).0
  }

  /// The bytes that, appended to those of a request, announce `sockets` that come with it.
  static func announcement(of sockets: Int) -> [UInt8] {
    // Two messages one after the other are one with the fields of both.
    let message = Istio_Workload_Zds_WorkloadRequest.with { $0.handover = Handover(sockets: sockets).message }
    return (try? message.serializedBytes()) ?? []
  }

  /// Reads one packet, and ``Handover`` where the agent knows it. Throws as ``init(decoding:)``.
  static func decode(_ bytes: [UInt8]) throws(ZDSError) -> (ZDSRequest, Handover?) {
    guard let message = try? Istio_Workload_Zds_WorkloadRequest(serializedBytes: bytes) else {
      throw .malformed(message: "WorkloadRequest")
    }
    let handover = message.hasHandover ? try Handover(message.handover) : nil
    return (try request(message, handover?.duty), handover)
  }

  private static func request(
    _ message: Istio_Workload_Zds_WorkloadRequest, _ duty: Handover.Duty?
  ) throws(ZDSError) -> ZDSRequest {
    switch message.payload {
    case nil:
      if let uid = WorkloadUID(message.handover.identityOf) { return .identity(uid) }
      guard let duty else { throw .emptyPayload(message: "WorkloadRequest") }
      return .duty(duty)
    case .add(let add):
      guard let uid = WorkloadUID(add.uid) else { throw .emptyUID(message: "AddWorkload") }
      guard add.hasWorkloadInfo else { throw .missingWorkloadInfo(uid) }
      let info = add.workloadInfo
      return .add(uid, .init(name: info.name, namespace: info.namespace, serviceAccount: info.serviceAccount))
    case .keep(let keep):
      guard let uid = WorkloadUID(keep.uid) else { throw .emptyUID(message: "KeepWorkload") }
      return .keep(uid)
    case .del(let delete):
      guard let uid = WorkloadUID(delete.uid) else { throw .emptyUID(message: "DelWorkload") }
      return .delete(uid)
    case .snapshotSent: return .snapshotSent
    }
  }
}
