import CSystemd
import Glibc
import Synchronization

/// A descriptor that the service manager passed when it started this process: a socket of a socket unit, or one that an
/// earlier process had stored (`sd_listen_fds(3)`).
public struct InheritedDescriptor: Sendable {
  /// `FileDescriptorName=` of the socket unit, or the name under which it was stored.
  public let name: String
  public let descriptor: SharedDescriptor
}

/// What this process was started with besides its standard streams, until somebody asks for it.
public final class InheritedDescriptors: Sendable {
  private let descriptors: Mutex<[InheritedDescriptor]>

  /// Takes them over, close-on-exec, and the variables that announce them out of the environment; so a second one has
  /// none. Make it before other threads start.
  public init() {
    var names: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?
    let count = Int(sd_listen_fds_with_names(1, &names))
    guard count > 0, let names else {
      descriptors = Mutex([])
      return
    }
    defer {
      for index in 0..<count { free(names[index]) }
      free(names)
    }
    let taken = (0..<count).map { index in
      InheritedDescriptor(
        name: names[index].map { String(cString: $0) } ?? "",
        descriptor: SharedDescriptor(Descriptor(owning: CInt(3 + index))))
    }
    descriptors = Mutex(taken)
  }

  /// Gives away those whose names fit; it does not have them any more. From any thread.
  public func take(where fits: (String) -> Bool) -> [InheritedDescriptor] {
    descriptors.withLock { descriptors in
      let taken = descriptors.filter { fits($0.name) }
      descriptors.removeAll { fits($0.name) }
      return taken
    }
  }
}
