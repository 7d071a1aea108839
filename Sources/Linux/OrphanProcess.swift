import CLinux
import Glibc

/// A process that this one has started and that is not its child: it belongs to whoever takes in orphans, such as the
/// service manager, and outlives this process. Belongs to one loop.
public final class OrphanProcess {
  /// Its number.
  public let id: Int32
  private let descriptor: Descriptor
  private var watch: Watch?

  /// Runs the program at `path`, with nothing blocked and no descriptors but the standard ones. Blocks for as long as the
  /// start takes. Throws ``SystemError``, also where the program cannot be executed, or is over already.
  public init(_ path: String, arguments: [String], environment: [String: String]) throws(SystemError) {
    let lists = [arguments, environment.map { "\($0)=\($1)" }].map { list in list.map { strdup($0) } + [nil] }
    defer { for text in lists.joined() { free(text) } }
    id = try system("execve", path) { ambient_start_orphan(path, lists[0], lists[1]) }
    let process = id
    do throws(SystemError) {
      descriptor = Descriptor(owning: try system("pidfd_open", path) { ambient_open_process(process) })
    } catch {
      // Nobody would look after it.
      kill(process, SIGKILL)
      throw error
    }
  }

  /// Has `body` called once it has ended. Throws ``SystemError``.
  public func whenEnded(on loop: EventLoop, _ body: @escaping () -> Void) throws(SystemError) {
    watch = try loop.watch(descriptor.raw, for: .readable) { [unowned self] _ in
      forget()
      body()
    }
  }

  /// Its end is nobody's concern any more.
  public func forget() {
    watch?.cancel()
    watch = nil
  }

  /// Sends a signal, unless it has ended: no other process that got its number is meant.
  public func signal(_ number: CInt) { _ = ambient_signal_process(descriptor.raw, number) }

  /// The program of this process, by the name it was started from: what is there now may be another version. Throws
  /// ``SystemError``.
  public static func ownProgram() throws(SystemError) -> String {
    // The name that was asked for may be a link to another version by now.
    if let name = CommandLine.arguments.first, name.hasPrefix("/") { return name }
    var bytes = [CChar](repeating: 0, count: Int(PATH_MAX))
    let count = try system("readlink", "/proc/self/exe") { readlink("/proc/self/exe", &bytes, bytes.count) }
    return String(decoding: bytes.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  /// This process's environment for another one, without what was meant for this one alone and with `additions`.
  public static func inheritedEnvironment(adding additions: [String: String] = [:]) -> [String: String] {
    var variables = ProcessEnvironment.variables().merging(additions) { $1 }
    // The process that the service manager watches. Without it, whoever is the service's main process is.
    variables["WATCHDOG_PID"] = nil
    return variables
  }
}
