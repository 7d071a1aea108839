import COpenSSL
import Vocabulary

/// Who is at the other end of a connection that a ``TLSContext`` made.
public enum TLSPeer {
  /// The verified peer's first SPIFFE id: the one for policies and logs (hbone.md §2.2).
  ///
  /// Nil before the handshake is finished, since until then nobody has proven to hold the certificate's key.
  public static func identity(of ssl: OpaquePointer) -> SPIFFEIdentity? {
    SSL_is_init_finished(ssl) == 1 ? PeerVerification.of(ssl)?.identity : nil
  }

  /// The peer's leaf certificate, or nil before the handshake is finished and where it does not parse.
  public static func certificate(of ssl: OpaquePointer) -> Certificate? {
    guard SSL_is_init_finished(ssl) == 1, let leaf = SSL_get1_peer_certificate(ssl) else { return nil }
    return try? Certificate(adopting: leaf, subject: "peer")
  }

  /// Whether the verified peer's certificate, or one above it, is on the revocation list in force now.
  public static func isRevoked(_ ssl: OpaquePointer) -> Bool {
    SSL_is_init_finished(ssl) == 1 && PeerVerification.of(ssl)?.isRevoked == true
  }

  /// Whether the two ends agreed on `h2`; false also where the peer has no ALPN, which is allowed (hbone.md §2.1).
  public static func negotiatedHTTP2(_ ssl: OpaquePointer) -> Bool {
    var name: UnsafePointer<UInt8>?
    var length: CUnsignedInt = 0
    SSL_get0_alpn_selected(ssl, &name, &length)
    return UnsafeBufferPointer(start: name, count: Int(length)).elementsEqual("h2".utf8)
  }
}
