import CLinux
import Glibc

/// Spare descriptors for work that has begun when the process has none left (EMFILE).
///
/// A connection that was accepted needs another descriptor for its other side. Were accepting to take the last ones, all
/// that was accepted would wait for all the rest. So whoever begins work asks ``isComplete`` first, and whoever ends it
/// may take from here. Belongs to one loop.
public final class DescriptorReserve {
  private let size: Int
  private var spares: [SharedDescriptor] = []

  /// Sets aside `size` descriptors, or as many as there are.
  public init(size: Int) {
    self.size = size
    refill()
  }

  /// Whether everything that was taken has been replaced. False means: begin nothing new.
  public var isComplete: Bool {
    if spares.count < size { refill() }
    return spares.count == size
  }

  /// Frees one descriptor for immediate use. False when there is none left.
  public func release() -> Bool { spares.popLast() != nil }

  private func refill() {
    while spares.count < size {
      guard let spare = try? Self.spare(like: spares.last) else { return }
      spares.append(SharedDescriptor(spare))
    }
  }

  private static func spare(like other: SharedDescriptor?) throws(SystemError) -> Descriptor {
    guard let other else { return try Descriptor.open("/dev/null", O_RDONLY) }
    return Descriptor(owning: try system("fcntl") { ambient_fcntl_int(other.raw, F_DUPFD_CLOEXEC, 0) })
  }
}
