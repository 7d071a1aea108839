import Linux

/// A request ready to be sent: encoded, so that its length is known to fit, and holding its namespace, so that the
/// descriptor cannot be closed or reused while it waits in a queue (zds.md §14.5).
public struct OutgoingRequest<Namespace: Sendable>: Sendable {
  public let request: ZDSRequest
  public let bytes: [UInt8]
  /// Present exactly for an add.
  public let namespace: Namespace?

  private init(_ request: ZDSRequest, _ namespace: Namespace?) throws(ZDSError) {
    self.request = request
    self.bytes = try request.encoded()
    self.namespace = namespace
  }

  /// Throws ``ZDSError/messageTooLong(bytes:)``.
  public static func add(
    _ uid: WorkloadUID, _ info: WorkloadInfo, _ namespace: Namespace
  ) throws(ZDSError) -> OutgoingRequest {
    try OutgoingRequest(.add(uid, info), namespace)
  }

  /// Throws ``ZDSError/messageTooLong(bytes:)``.
  public static func keep(_ uid: WorkloadUID) throws(ZDSError) -> OutgoingRequest {
    try OutgoingRequest(.keep(uid), nil)
  }

  /// Throws ``ZDSError/messageTooLong(bytes:)``.
  public static func delete(_ uid: WorkloadUID) throws(ZDSError) -> OutgoingRequest {
    try OutgoingRequest(.delete(uid), nil)
  }

  /// Throws ``ZDSError/messageTooLong(bytes:)``, in theory.
  static func duty(_ duty: Handover.Duty) throws(ZDSError) -> OutgoingRequest {
    try OutgoingRequest(.duty(duty), nil)
  }

  /// Throws ``ZDSError/messageTooLong(bytes:)``.
  static func identity(of uid: WorkloadUID) throws(ZDSError) -> OutgoingRequest {
    try OutgoingRequest(.identity(uid), nil)
  }

  /// The packet for a ztunnel that knows ``Handover``, with `sockets` of the pod. Where they do not fit, it is the plain
  /// one and the sockets stay here.
  func packet(with sockets: [SharedDescriptor]) -> (bytes: [UInt8], sockets: [SharedDescriptor]) {
    switch request {
    case .duty, .identity: return (bytes, [])
    case .add, .keep, .delete, .snapshotSent: break
    }
    let announced = bytes + ZDSRequest.announcement(of: sockets.count)
    return announced.count <= PacketSocket.maximumPacket ? (announced, sockets) : (bytes, [])
  }

  static func snapshotSent() throws(ZDSError) -> OutgoingRequest {
    try OutgoingRequest(.snapshotSent, nil)
  }

  /// The workload it is about.
  var uid: WorkloadUID? {
    switch request {
    case .add(let uid, _), .keep(let uid), .delete(let uid), .identity(let uid): uid
    case .snapshotSent, .duty: nil
    }
  }
}
