import COpenSSL
import TLS
import Vocabulary

/// A client and a server that talk through memory, with every failure that either saw.
final class MemoryHandshake {
  let client: OpaquePointer
  let server: OpaquePointer
  private(set) var clientError: TLSError?
  private(set) var serverError: TLSError?
  /// What each side has sent and the other has not taken yet.
  private let clientWire: (read: OpaquePointer, write: OpaquePointer)
  private let serverWire: (read: OpaquePointer, write: OpaquePointer)

  struct OutOfMemory: Error {}

  /// Takes ownership of both.
  init(client: OpaquePointer, server: OpaquePointer) throws {
    self.client = client
    self.server = server
    func buffer() throws -> OpaquePointer {
      guard let bio = BIO_new(BIO_s_mem()) else { throw OutOfMemory() }
      BIO_ctrl(bio, BIO_C_SET_BUF_MEM_EOF_RETURN, -1, nil)
      return bio
    }
    clientWire = (try buffer(), try buffer())
    serverWire = (try buffer(), try buffer())
    SSL_set_bio(client, clientWire.read, clientWire.write)
    SSL_set_bio(server, serverWire.read, serverWire.write)
  }

  convenience init(
    client: WorkloadCertificate, server: WorkloadCertificate, expecting expected: [SPIFFEIdentity]
  ) throws {
    try self.init(
      client: TLSContext(role: .client, certificate: client).makeSSL(expecting: expected),
      server: TLSContext(role: .server, certificate: server).makeSSL())
  }

  deinit {
    SSL_free(client)
    SSL_free(server)
  }

  /// Runs both ends until neither has anything left to do; with TLS 1.3 a client learns of a refused certificate
  /// only when it reads afterwards, so both ends read at the end.
  func run() {
    for _ in 0..<20 {
      if clientError == nil { clientError = Self.step(client) }
      carry(from: clientWire.write, to: serverWire.read)
      if serverError == nil { serverError = Self.step(server) }
      carry(from: serverWire.write, to: clientWire.read)
    }
  }

  /// Puts bytes before the server as if the client had sent them.
  func sendToServer(_ bytes: [UInt8]) {
    BIO_write(serverWire.read, bytes, CInt(bytes.count))
    if serverError == nil { serverError = Self.step(server) }
    carry(from: serverWire.write, to: clientWire.read)
  }

  var isEstablished: Bool {
    clientError == nil && serverError == nil && SSL_is_init_finished(client) == 1
      && SSL_is_init_finished(server) == 1
  }

  private static func step(_ ssl: OpaquePointer) -> TLSError? {
    ERR_clear_error()
    var result = SSL_do_handshake(ssl)
    if result == 1 {
      var byte: UInt8 = 0
      result = SSL_read(ssl, &byte, 1)
    }
    guard result <= 0, ![SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE].contains(SSL_get_error(ssl, result)) else {
      return nil
    }
    return .handshake(ssl, result: result)
  }

  private func carry(from source: OpaquePointer, to sink: OpaquePointer) {
    var buffer = [UInt8](repeating: 0, count: 16 << 10)
    while true {
      let count = BIO_read(source, &buffer, CInt(buffer.count))
      guard count > 0 else { return }
      BIO_write(sink, buffer, count)
    }
  }
}
