import Linux
import Vocabulary

/// Why a message, a request or a connection of the ZDS socket failed.
public enum ZDSError: CodedError, Equatable {
  // One message.
  case messageTooLong(bytes: Int)
  case malformed(message: String)
  case emptyPayload(message: String)
  case emptyUID(message: String)
  case missingWorkloadInfo(WorkloadUID)
  case truncatedPacket
  case truncatedDescriptors
  case descriptorMissing
  case unexpectedDescriptors(count: Int)

  // One session.
  case keepAfterSnapshot(WorkloadUID)
  case repeatedSnapshot
  case unsolicited
  case helloTimeout
  case acknowledgementTimeout(request: String)
  case peerNotReading
  case tooManyQueued(limit: Int)
  case closedByPeer
  case stopped
  case system(SystemError)

  // One request.
  case refused(String)
  case notConnected

  // The socket file.
  case pathTooLong(String, limit: Int)
  case notASocket(path: String)

  public var code: String {
    switch self {
    case .messageTooLong: "ZDS_MESSAGE_TOO_LONG"
    case .malformed: "ZDS_MALFORMED"
    case .emptyPayload: "ZDS_EMPTY_PAYLOAD"
    case .emptyUID: "ZDS_EMPTY_UID"
    case .missingWorkloadInfo: "ZDS_NO_WORKLOAD_INFO"
    case .truncatedPacket: "ZDS_TRUNCATED_PACKET"
    case .truncatedDescriptors: "ZDS_TRUNCATED_DESCRIPTORS"
    case .descriptorMissing: "ZDS_NO_DESCRIPTOR"
    case .unexpectedDescriptors: "ZDS_UNEXPECTED_DESCRIPTORS"
    case .keepAfterSnapshot: "ZDS_KEEP_AFTER_SNAPSHOT"
    case .repeatedSnapshot: "ZDS_REPEATED_SNAPSHOT"
    case .unsolicited: "ZDS_UNSOLICITED"
    case .helloTimeout: "ZDS_HELLO_TIMEOUT"
    case .acknowledgementTimeout: "ZDS_ACK_TIMEOUT"
    case .peerNotReading: "ZDS_PEER_NOT_READING"
    case .tooManyQueued: "ZDS_TOO_MANY_QUEUED"
    case .closedByPeer: "ZDS_CLOSED_BY_PEER"
    case .stopped: "ZDS_STOPPED"
    case .system(let error): error.code
    case .refused: "ZDS_REFUSED"
    case .notConnected: "ZDS_NOT_CONNECTED"
    case .pathTooLong: "ZDS_PATH_TOO_LONG"
    case .notASocket: "ZDS_PATH_NOT_A_SOCKET"
    }
  }

  public var summary: String {
    switch self {
    case .messageTooLong(let bytes): "a message of \(bytes) bytes is longer than \(PacketSocket.maximumPacket)"
    case .malformed(let message): "the packet is no \(message)"
    case .emptyPayload(let message): "the \(message) says nothing this version understands"
    case .emptyUID(let message): "the \(message) names no workload"
    case .missingWorkloadInfo(let uid): "the add of \(uid) has no workload info"
    case .truncatedPacket: "a packet longer than \(PacketSocket.maximumPacket) bytes arrived"
    case .truncatedDescriptors: "more descriptors arrived than one packet may carry"
    case .descriptorMissing: "an add arrived without its network namespace"
    case .unexpectedDescriptors(let count): "\(count) descriptors arrived with a message that announces another number"
    case .keepAfterSnapshot(let uid): "a keep of \(uid) arrived after the snapshot"
    case .repeatedSnapshot: "the snapshot was sent twice on one connection"
    case .unsolicited: "ztunnel spoke without having been asked"
    case .helloTimeout: "ztunnel connected but did not say hello in time"
    case .acknowledgementTimeout(let request): "ztunnel did not answer the \(request) in time"
    case .peerNotReading: "the other side does not read its packets"
    case .tooManyQueued(let limit): "more than \(limit) requests wait for one ztunnel"
    case .closedByPeer: "the other side closed the connection"
    case .stopped: "this side is stopping"
    case .system(let error): error.summary
    case .refused(let text): "ztunnel refused: \(Self.printable(text))"
    case .notConnected: "no ztunnel is connected"
    case .pathTooLong(let path, let limit): "the socket path \(path) is longer than \(limit) bytes"
    case .notASocket(let path): "\(path) exists and is no socket"
    }
  }

  public var remedy: String? {
    switch self {
    case .messageTooLong: "shorten the workload's uid, name, namespace or service account"
    case .malformed, .emptyPayload, .emptyUID, .missingWorkloadInfo, .truncatedPacket, .truncatedDescriptors,
      .descriptorMissing, .unexpectedDescriptors, .keepAfterSnapshot, .repeatedSnapshot, .unsolicited:
      "check that node agent and ztunnel speak the same version"
    case .helloTimeout, .acknowledgementTimeout, .peerNotReading, .tooManyQueued: "check that ztunnel is not stuck"
    case .refused: "see ztunnel's log; its ports may be taken inside the pod"
    case .notConnected: "check that ztunnel runs, and that both sides use the same socket path"
    case .notASocket: "give another path, or remove the file"
    case .pathTooLong: "choose a shorter path"
    case .closedByPeer, .stopped, .system: nil
    }
  }

  /// Text of the other side, safe for one line of a log.
  private static func printable(_ text: String) -> String {
    String(String.UnicodeScalarView(text.unicodeScalars.map { $0.properties.generalCategory == .control ? " " : $0 }))
  }
}
