import CLinux
import Glibc
import Linux

/// What one receive found.
public enum ReceivedPacket: Sendable {
  /// One packet and the descriptors that came with it.
  case packet([UInt8], [SharedDescriptor])
  case endOfFile
  /// Nothing is there now.
  case nothing
}

/// One connected, non-blocking AF_UNIX SOCK_SEQPACKET socket: a packet is a message (zds.md §1).
///
/// Safe to share between threads; calls never block.
public final class PacketSocket: Sendable {
  /// Both sides of the protocol receive into a buffer of this many bytes.
  public static let maximumPacket = 1024

  static let kind = CInt(SOCK_SEQPACKET.rawValue) | CInt(SOCK_CLOEXEC.rawValue) | CInt(SOCK_NONBLOCK.rawValue)

  public let descriptor: SharedDescriptor

  /// Takes over a connected socket and makes it non-blocking. Throws ``ZDSError/system(_:)``.
  public init(adopting descriptor: consuming Descriptor) throws(ZDSError) {
    let raw = descriptor.raw
    do {
      let flags = try system("fcntl") { ambient_fcntl_int(raw, F_GETFL, 0) }
      try system("fcntl") { ambient_fcntl_int(raw, F_SETFL, flags | O_NONBLOCK) }
    } catch { throw .system(error) }
    self.descriptor = SharedDescriptor(descriptor)
  }

  /// Connects to a listener. A full backlog is reported as `EAGAIN` and leaves nothing connected: dial again
  /// (zds.md §14.12). Throws ``ZDSError/system(_:)``.
  public static func dial(_ path: UnixSocketPath) throws(ZDSError) -> PacketSocket {
    do {
      let descriptor = Descriptor(owning: try system("socket") { socket(AF_UNIX, kind, 0) })
      let raw = descriptor.raw
      try system("connect", path.text) { path.withAddress { connect(raw, $0, $1) } }
      return try PacketSocket(adopting: descriptor)
    } catch let error as SystemError { throw .system(error) } catch { throw error as? ZDSError ?? .closedByPeer }
  }

  /// Reads one packet. Every descriptor that comes with it is owned, or closed, before anything else is looked at,
  /// so that no error leaks one (zds.md F5). Throws ``ZDSError``: truncation, more descriptors than `limit`, system.
  public func receive(descriptorsAtMost limit: Int = 1) throws(ZDSError) -> ReceivedPacket {
    let received: DescriptorPassing.Received?
    do {
      received = try DescriptorPassing.receive(
        descriptor.raw, bytesAtMost: Self.maximumPacket, descriptorsAtMost: limit)
    } catch { throw .system(error) }
    guard let received else { return .nothing }
    if received.isTruncated { throw .truncatedPacket }
    if received.lacksDescriptors { throw .truncatedDescriptors }
    if received.descriptorCount > limit { throw .unexpectedDescriptors(count: received.descriptorCount) }
    if received.bytes.isEmpty { return .endOfFile }
    return .packet(received.bytes, received.descriptors)
  }

  /// Sends one packet, with the descriptors in `passing`; the caller keeps its own copies open.
  ///
  /// At most one request and its answer are ever under way, so a full buffer means a peer that does not read:
  /// an error, not a reason to wait. Throws ``ZDSError``.
  public func send(_ bytes: [UInt8], passing: [SharedDescriptor] = []) throws(ZDSError) {
    guard bytes.count <= Self.maximumPacket else { throw .messageTooLong(bytes: bytes.count) }
    do {
      try DescriptorPassing.send(descriptor.raw, bytes, passing: passing)
    } catch {
      if error.number == EAGAIN { throw .peerNotReading }
      throw error.number == EPIPE ? .closedByPeer : .system(error)
    }
  }

  /// Ends both directions: whoever waits for this socket, here or there, finds its end.
  public func shutDown() {
    _ = shutdown(descriptor.raw, CInt(SHUT_RDWR))
  }
}
