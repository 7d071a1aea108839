import CLinux
import Glibc
import Linux
import Vocabulary

/// A message is the text, then the client's socket, the upstream's, and a file in memory with what waits to be written to
/// the upstream and then to the client, where anything does.
extension MovedConnection {
  /// Leaves it in a mailbox. If nobody takes it, and the last who has the mailbox lets go of it, both sides see a reset.
  /// Throws ``MovedConnectionError``; it is still the caller's then.
  func put(into mailbox: Mailbox) throws(MovedConnectionError) {
    // Until somebody goes on with it, whatever closes the sockets loses bytes.
    reset()
    do throws(SystemError) {
      var descriptors = [left.client, left.upstream]
      let pending = left.position.up.pending + left.position.down.pending
      if !pending.isEmpty { descriptors.append(try Self.memory(of: pending)) }
      try mailbox.put(MovedConnectionText(self).bytes, passing: descriptors)
    } catch { throw .system(error) }
  }

  /// Reads a message of a pod's mailbox: both sockets must be the pod's, and lead where the message says. Until a pump goes on
  /// with them they end with a reset. Throws ``MovedConnectionError``.
  init(_ message: Mailbox.Message, in namespace: NamespaceIdentity) throws(MovedConnectionError) {
    let text = try MovedConnectionText(message.bytes)
    let pending = text.up.pending + text.down.pending
    guard message.descriptors.count == (pending > 0 ? 3 : 2) else {
      throw .malformed("the wrong number of descriptors")
    }
    let (client, upstream) = (message.descriptors[0], message.descriptors[1])
    for socket in [client, upstream] {
      let (isStream, place): (Bool, NamespaceIdentity)
      do throws(SystemError) {
        (isStream, place) = (try TCPSocket.isStream(socket.raw), try NamespaceIdentity(ofSocket: socket.raw))
      } catch { throw .system(error) }
      guard isStream else { throw .malformed("not a TCP socket") }
      guard place == namespace else { throw .foreignSocket(place) }
    }
    var bytes: [UInt8] = []
    if pending > 0 { bytes = try Self.contents(of: message.descriptors[2], count: pending) }
    facts = text.facts
    left = PumpLeaving(
      client: client, upstream: upstream,
      position: PumpPosition(
        up: text.up.position(Array(bytes.prefix(text.up.pending))),
        down: text.down.position(Array(bytes.dropFirst(text.up.pending)))))
    guard Self.isPeer(facts.peer, of: client), Self.isPeer(facts.actual, of: upstream) else {
      throw .malformed("a socket leads elsewhere")
    }
  }

  /// Whether a socket's other end is there, as far as the kernel still knows.
  private static func isPeer(_ address: SocketAddress, of socket: SharedDescriptor) -> Bool {
    TCPSocket.peerAddress(socket.raw).map { $0 == address.canonical } ?? true
  }

  private static func memory(of bytes: [UInt8]) throws(SystemError) -> SharedDescriptor {
    let file = Descriptor(owning: try system("memfd_create") { ambient_memory_file("moved connection") })
    try WholeFile.write(bytes, to: file.raw, "moved connection")
    return SharedDescriptor(file)
  }

  private static func contents(of file: SharedDescriptor, count: Int) throws(MovedConnectionError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    var have = 0
    while have < count {
      let got = bytes.withUnsafeMutableBytes {
        let room = UnsafeMutableRawBufferPointer(rebasing: $0[have...])
        return pread(file.raw, room.baseAddress, room.count, off_t(have))
      }
      if got < 0, errno == EINTR { continue }
      guard got > 0 else { throw .malformed("bytes are missing") }
      have += got
    }
    return bytes
  }
}

extension SocketPump {
  /// Goes on where another pump has left.
  convenience init(resuming left: PumpLeaving, _ worker: Worker) {
    for socket in [left.client, left.upstream] { TCPSocket.setResetOnClose(socket.raw, false) }
    self.init(
      client: left.client, upstream: left.upstream, loop: worker.loop, scratch: worker.scratch, at: left.position)
  }
}
