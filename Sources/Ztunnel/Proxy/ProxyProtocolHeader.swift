import Vocabulary

/// The PROXY protocol v2 header that tells an application tunnel about the original connection (hbone.md §13).
struct ProxyProtocolHeader: Equatable {
  /// The peer of the tunnel.
  var source: SocketAddress
  /// What the peer asked for.
  var destination: SocketAddress
  /// Who the peer has proven to be.
  var identity: SPIFFEIdentity?

  private static let signature: [UInt8] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a]
  private static let versionAndCommand: UInt8 = 0x21
  /// Istio's own type of the source's SPIFFE id.
  private static let identityType: UInt8 = 0xd0

  /// The header on the wire. An identity too long for its length field is left out.
  var bytes: [UInt8] {
    var body: [UInt8] = []
    let family: UInt8
    switch (source.ip.family, destination.ip.family) {
    case (.v4, .v4): family = 0x11
    case (.v6, .v6): family = 0x21
    // One address block cannot hold both; the receiver is told that there are none.
    default: family = 0x00
    }
    if family != 0x00 {
      body += source.ip.bytes + destination.ip.bytes
      body += Self.bigEndian(source.port) + Self.bigEndian(destination.port)
    }
    if let text = identity.map({ Array($0.description.utf8) }), text.count <= Int(UInt16.max) - 64 {
      body.append(Self.identityType)
      body += Self.bigEndian(UInt16(text.count)) + text
    }
    return Self.signature + [Self.versionAndCommand, family] + Self.bigEndian(UInt16(body.count)) + body
  }

  private static func bigEndian(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 0xff)] }
}
