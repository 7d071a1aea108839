import Glibc
import Linux

/// Who listens in a namespace with ztunnel's mark, asked of the kernel by `sock_diag(7)`.
///
/// The mark is the proof that it is ztunnel: an application needs CAP_NET_ADMIN or CAP_NET_RAW to set it.
enum MeshListeners {
  private static let byFamily: UInt16 = 20
  private static let listening: UInt32 = 1 << 10
  /// `struct inet_diag_msg`.
  private static let answerSize = 72
  private static let markAttribute: UInt16 = 15

  /// TCP ports listened on with the mark, in the namespace the calling thread is in. Throws ``RedirectionError``.
  static func ports() throws(RedirectionError) -> Set<UInt16> {
    var session = try NetlinkSession(.socketDiagnosis)
    var ports: Set<UInt16> = []
    for family in [AF_INET, AF_INET6] {
      for message in try session.dump(byFamily, request(family)) {
        if let port = try port(message) { ports.insert(port) }
      }
    }
    return ports
  }

  /// `struct inet_diag_req_v2`: family, protocol, extensions, padding, states, identity (48).
  static func request(_ family: CInt) -> [UInt8] {
    var request = [UInt8](repeating: 0, count: 56)
    request.put(UInt8(family), at: 0)
    request.put(UInt8(IPPROTO_TCP), at: 1)
    request.put(listening, at: 4)
    return request
  }

  /// The port of an answer, nil when the socket has another mark, or the kernel hides it.
  static func port(_ message: NetlinkMessage) throws(RedirectionError) -> UInt16? {
    guard message.kind == byFamily else { return nil }
    guard let attributes = message.attributes(after: answerSize),
      let port = message.payload.number(UInt16.self, at: 4)
    else { throw .netlinkMalformed(reason: "a socket with an attribute longer than itself") }
    guard let mark = attributes[markAttribute]?.number(UInt32.self, at: 0),
      mark & MeshConstants.markMask == MeshConstants.proxyMark
    else { return nil }
    return UInt16(bigEndian: port)
  }
}
