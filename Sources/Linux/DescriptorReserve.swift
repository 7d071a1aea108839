import CLinux
import Glibc

/// Spare descriptors for work that has begun when the process has none left (EMFILE).
///
/// A connection that was accepted needs another descriptor for its other side. Were accepting to take the last ones, all
/// that was accepted would wait for all the rest. So whoever begins work asks ``isComplete`` first, and whoever ends it
/// may take from here. Belongs to one loop.
public final class DescriptorReserve {
  private let size: Int
  private let make: () -> Descriptor?
  private var spares: [SharedDescriptor] = []
  /// With this one somebody can be turned away when all others are in use.
  private var last: SharedDescriptor?

  /// Sets aside `size` descriptors and one more, or as many as there are.
  public convenience init(size: Int) {
    self.init(size: size) { try? Descriptor.open("/dev/null", O_RDONLY) }
  }

  /// The same with descriptors that `make` makes, which returns nil where there are none left.
  init(size: Int, make: @escaping () -> Descriptor?) {
    self.size = size
    self.make = make
    refill()
  }

  /// Whether everything that was taken has been replaced. False means: begin nothing new.
  public var isComplete: Bool {
    refill()
    return last != nil && spares.count == size
  }

  /// Frees one descriptor for immediate use. False when there is none left.
  public func release() -> Bool { spares.popLast() != nil }

  /// Runs `body` while one descriptor more is free than otherwise, where nobody else takes it; `body` must have closed what
  /// it has opened when it returns. Rethrows what it throws.
  public func withOneMore<Value, Failure: Error>(_ body: () throws(Failure) -> Value) throws(Failure) -> Value {
    last = nil
    defer { refill() }
    return try body()
  }

  private func refill() {
    if last == nil, let spare = make() { last = SharedDescriptor(spare) }
    while last != nil, spares.count < size {
      guard let spare = make() else { return }
      spares.append(SharedDescriptor(spare))
    }
  }
}
