import Linux

/// What happened at the node agent's end, for its log and its status.
public enum ZDSServerEvent: Sendable, CustomStringConvertible {
  /// Connections are numbered in the order they were accepted.
  case connected(UInt64, PeerCredentials)
  case peerRefused(PeerCredentials)
  case tooManyConnections(limit: Int)
  case acceptFailed(SystemError)
  case hello(UInt64, version: Int)
  case live(UInt64)
  case snapshotEntryRefused(UInt64, WorkloadUID, String)
  /// A ztunnel that knows ``Handover`` was told whether to take new connections.
  case told(UInt64, Handover.Duty)
  /// A descriptor passed as a listening socket of this workload is none, or one too many.
  case socketRefused(UInt64, WorkloadUID)
  case closed(UInt64, ZDSError)
  /// No ztunnel came for what one has left.
  case mailboxesDropped(count: Int, after: Duration)

  public var description: String {
    switch self {
    case .connected(let id, let peer): "ztunnel \(id) connected (pid \(peer.process))"
    case .peerRefused(let peer): "refused a connection of pid \(peer.process): user \(peer.user) is not allowed"
    case .tooManyConnections(let limit): "refused a connection: \(limit) are open already"
    case .acceptFailed(let error): "cannot accept: \(error)"
    case .hello(let id, let version): "ztunnel \(id) said hello, version \(version)"
    case .live(let id): "ztunnel \(id) has the whole snapshot"
    case .snapshotEntryRefused(let id, let uid, let text):
      "ztunnel \(id) could not start \(uid) from the snapshot: \(ZDSError.refused(text).summary)"
    case .told(let id, .accept): "ztunnel \(id) takes new connections"
    case .told(let id, .rest): "ztunnel \(id) leaves new connections to its successor"
    case .socketRefused(let id, let uid): "ztunnel \(id) passed a descriptor that cannot be kept for \(uid)"
    case .mailboxesDropped(let count, let limit):
      "no ztunnel came within \(limit): what one has left of plain connections is reset (mailboxes: \(count))"
    case .closed(let id, let error): "connection of ztunnel \(id) ended: \(error)"
    }
  }
}
