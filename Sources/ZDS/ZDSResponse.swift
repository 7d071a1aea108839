import IstioAPI
import SwiftProtobuf

/// What ztunnel answers (zds.md §2).
public enum ZDSResponse: Equatable, Sendable {
  case acknowledged
  /// Refused, with the reason. An empty reason would mean success on the wire, so it is replaced when encoded.
  case refused(String)

  /// Two nested length-delimited fields, each with a tag byte and a two-byte length, leave this much of a packet.
  static let maximumReason = PacketSocket.maximumPacket - 6

  /// One packet. A reason that does not fit is cut at a character boundary (zds.md T2). `sockets` is how many come with
  /// it, for an agent that knows ``Handover``; `identity` answers ``ZDSRequest/identity(_:)``.
  public func encoded(with sockets: Int = 0, identity: Bool? = nil) -> [UInt8] {
    let message = Istio_Workload_Zds_WorkloadResponse.with {
      switch self {
      case .acknowledged: $0.ack = .init()
      case .refused(let reason):
        $0.ack = .with { $0.error = reason.isEmpty ? "unknown error" : Self.trimmed(reason) }
      }
      if sockets > 0 { $0.handover = Handover(sockets: sockets).message }
      if let identity { $0.handover.identity = identity ? .held : .missing }
    }
    return (try? message.serializedBytes()) ?? []
  }

  /// Reads one packet. Throws ``ZDSError``: malformed, empty payload.
  public init(decoding bytes: [UInt8]) throws(ZDSError) {
    self = try Self.decode(bytes).0
  }

  /// Reads one packet, and how many sockets come with it. Throws as ``init(decoding:)``.
  static func decode(_ bytes: [UInt8]) throws(ZDSError) -> (ZDSResponse, sockets: Int) {
    guard let message = try? Istio_Workload_Zds_WorkloadResponse(serializedBytes: bytes) else {
      throw .malformed(message: "WorkloadResponse")
    }
    guard case .ack(let ack) = message.payload else { throw .emptyPayload(message: "WorkloadResponse") }
    let sockets = message.hasHandover ? try Handover(message.handover).sockets : 0
    return (ack.error.isEmpty ? .acknowledged : .refused(ack.error), sockets)
  }

  /// Whether ztunnel holds a certificate, as this packet says; nil where it does not say.
  static func identity(in bytes: [UInt8]) -> Bool? {
    guard let message = try? Istio_Workload_Zds_WorkloadResponse(serializedBytes: bytes) else { return nil }
    switch message.handover.identity {
    case .held: return true
    case .missing: return false
    case .unsaid, .UNRECOGNIZED: return nil
    }
  }

  private static func trimmed(_ reason: String) -> String {
    guard reason.utf8.count > maximumReason else { return reason }
    let bytes = Array(reason.utf8.prefix(maximumReason + 1))
    // The first byte left out must begin a scalar; continuation bytes are 10xxxxxx.
    var end = maximumReason
    while end > 0, bytes[end] & 0xc0 == 0x80 { end -= 1 }
    return String(decoding: bytes[..<end], as: UTF8.self)
  }
}
