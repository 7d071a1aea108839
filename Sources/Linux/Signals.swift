import CLinux
import Glibc

/// Signals taken as events of a loop instead of interrupting whatever runs.
public final class SignalSource {
  private let descriptor: Descriptor
  private var watch: Watch?

  /// Blocks `signals` in the calling thread. Call it in `main` before any other thread starts: threads inherit it.
  public static func block(_ signals: [CInt]) {
    var set = mask(of: signals)
    pthread_sigmask(SIG_BLOCK, &set, nil)
  }

  /// A peer that is gone is an error of the call that finds out, not the end of the process.
  public static func ignoreBrokenPipes() {
    signal(SIGPIPE, SIG_IGN)
  }

  /// Reports each of the blocked `signals` to `handler` on the loop's thread. Throws ``SystemError``.
  public init(_ signals: [CInt], on loop: EventLoop, _ handler: @escaping (CInt) -> Void) throws(SystemError) {
    var set = Self.mask(of: signals)
    descriptor = Descriptor(
      owning: try system("signalfd") { signalfd(-1, &set, CInt(SFD_CLOEXEC | SFD_NONBLOCK)) })
    let raw = descriptor.raw
    watch = try loop.watch(raw, for: .readable) { _ in
      var info = signalfd_siginfo()
      while read(raw, &info, MemoryLayout<signalfd_siginfo>.size) == MemoryLayout<signalfd_siginfo>.size {
        handler(CInt(bitPattern: info.ssi_signo))
      }
    }
  }

  /// Stops reporting. On the loop's thread.
  public func cancel() {
    watch?.cancel()
    watch = nil
  }

  private static func mask(of signals: [CInt]) -> sigset_t {
    var set = sigset_t()
    sigemptyset(&set)
    for number in signals { sigaddset(&set, number) }
    return set
  }
}
