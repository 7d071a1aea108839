import CLinux
import Glibc

/// Messages with descriptors, by SCM_RIGHTS, over UNIX sockets that keep messages apart. Never blocks where the socket does
/// not. From any thread.
public enum DescriptorPassing {
  /// What one receive found.
  public struct Received {
    /// None at the end of a connection.
    public var bytes: [UInt8]
    public var descriptors: [SharedDescriptor]
    /// How many came; those beyond the limit are closed.
    public var descriptorCount: Int
    /// Bytes were cut off.
    public var isTruncated: Bool
    /// The kernel has left descriptors out, for want of room.
    public var lacksDescriptors: Bool
  }

  /// Takes one message. Every descriptor that comes with it is owned, or closed, before anything else is looked at, so that
  /// no error leaks one. Nil where nothing is there now. Throws ``SystemError``, about `subject`.
  public static func receive(_ raw: CInt, bytesAtMost: Int, descriptorsAtMost: Int, subject: String = "")
    throws(SystemError) -> Received?
  {
    var bytes = [UInt8](repeating: 0, count: bytesAtMost)
    var passed = [CInt](repeating: -1, count: descriptorsAtMost)
    var count: CInt = 0
    var flags: CInt = 0
    let length: Int
    do throws(SystemError) {
      length = try system("recvmsg", subject) {
        bytes.withUnsafeMutableBytes {
          ambient_receive_packet(
            raw, $0.baseAddress, $0.count, &passed, CInt(descriptorsAtMost), &count, &flags)
        }
      }
    } catch  where error.number == EAGAIN { return nil }
    let descriptors = passed.prefix(Int(count)).map { SharedDescriptor(Descriptor(owning: $0)) }
    bytes.removeLast(bytes.count - length)
    return Received(
      bytes: bytes, descriptors: descriptors, descriptorCount: Int(count),
      isTruncated: flags & CInt(MSG_TRUNC) != 0, lacksDescriptors: flags & CInt(MSG_CTRUNC) != 0)
  }

  /// Sends one message; the caller keeps its own copies of the descriptors. Throws ``SystemError``: `EAGAIN` where there is no
  /// room for it.
  public static func send(
    _ raw: CInt, _ bytes: [UInt8], passing descriptors: [SharedDescriptor], subject: String = ""
  ) throws(SystemError) {
    let raws = descriptors.map(\.raw)
    _ = try withExtendedLifetime(descriptors) { () throws(SystemError) in
      try system("sendmsg", subject) {
        bytes.withUnsafeBytes { ambient_send_packet(raw, $0.baseAddress, $0.count, raws, CInt(raws.count)) }
      }
    }
  }
}
