import CLinux
import Glibc
import Vocabulary

/// Non-blocking UDP sockets: functions over descriptors, so that owners keep owning them. Options, binding and
/// connecting are those of ``TCPSocket``.
public enum UDPSocket {
  /// A new non-blocking, close-on-exec socket in the calling thread's namespace. Throws ``SystemError``.
  public static func make(_ family: IPAddress.Family) throws(SystemError) -> Descriptor {
    Descriptor(
      owning: try system("socket") {
        socket(
          family == .v4 ? AF_INET : AF_INET6,
          CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0)
      })
  }

  /// The next datagram and its sender, IPv4-mapped IPv6 unwrapped; nil when there is none. What does not fit `buffer`
  /// is cut off. Throws ``SystemError``.
  public static func receive(_ raw: CInt, into buffer: UnsafeMutableRawBufferPointer) throws(SystemError)
    -> (count: Int, sender: SocketAddress?)?
  {
    var kernel = KernelAddress()
    do throws(SystemError) {
      let count = try system("recvfrom") {
        kernel.withMutablePointer { recvfrom(raw, buffer.baseAddress, buffer.count, 0, $0, $1) }
      }
      return (count, kernel.address)
    } catch  where error.number == EAGAIN {
      return nil
    }
  }

  /// Sends one datagram from a socket of `family`. Throws ``SystemError``, `EAGAIN` when the socket is full.
  public static func send(_ raw: CInt, _ family: IPAddress.Family, _ bytes: [UInt8], to address: SocketAddress)
    throws(SystemError)
  {
    let kernel = KernelAddress(address, for: family)
    try system("sendto", "\(address)") {
      kernel.withPointer { sendto(raw, bytes, bytes.count, CInt(MSG_NOSIGNAL), $0, $1) }
    }
  }

  /// Sends one datagram from a connected socket. Throws ``SystemError``: also what became of an earlier one, such as
  /// `ECONNREFUSED`.
  public static func send(_ raw: CInt, _ bytes: [UInt8]) throws(SystemError) {
    try system("send") { Glibc.send(raw, bytes, bytes.count, CInt(MSG_NOSIGNAL)) }
  }
}
