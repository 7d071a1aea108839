import CSystemd
import Glibc

/// A descriptor that the service manager passed when it started this process: a socket of a socket unit, or one that an
/// earlier process had stored (`sd_listen_fds(3)`).
public struct InheritedDescriptor: Sendable {
  /// `FileDescriptorName=` of the socket unit, or the name under which it was stored.
  public let name: String
  public let descriptor: SharedDescriptor
}

/// What this process was started with besides its standard streams.
public enum InheritedDescriptors {
  /// Takes them over, close-on-exec, and the variables that announce them out of the environment; so a second call finds
  /// none. Call it before other threads start.
  public static func take() -> [InheritedDescriptor] {
    var names: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
    let count = Int(sd_listen_fds_with_names(1, &names))
    guard count > 0, let names else { return [] }
    defer {
      for index in 0..<count { free(names[index]) }
      free(names)
    }
    return (0..<count).map { index in
      InheritedDescriptor(
        name: names[index].map { String(cString: $0) } ?? "",
        descriptor: SharedDescriptor(Descriptor(owning: CInt(3 + index))))
    }
  }
}
