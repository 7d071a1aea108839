import Foundation
import Linux

/// A child process with everything it wrote, in a process group of its own that is killed with it, and when this process is
/// killed.
public final class RunningProcess: @unchecked Sendable {
  public let command: [String]
  public let pid: pid_t

  // Guarded by `condition`, which is also signalled at every change.
  private let condition = NSCondition()
  private var outputBytes: [UInt8] = []
  private var errorBytes: [UInt8] = []
  private var openStreams = 2
  private var exitStatus: CInt?
  private var isReaped = false

  /// Starts a command, in the given network namespace or this one. `environment` is added to the inherited one.
  public init(
    _ command: [String], input: String = "", environment: [String: String] = [:], in namespace: NetworkNamespace? = nil
  ) throws {
    guard let name = command.first, let path = Command.path(of: name) else {
      throw CommandError.notFound(command.first ?? "")
    }
    self.command = command
    let output = try Self.pipe()
    let errors = try Self.pipe()
    let stdin = try Self.file(holding: input)
    let merged = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    let start = {
      try Self.spawn(
        path, command, environment: merged, descriptors: [stdin.raw, output.write.raw, errors.write.raw])
    }
    // A child starts in the network namespace of the thread that makes it.
    pid = try namespace.map { try $0.enter(start) } ?? start()
    Guardian.shared?.watch(group: pid)
    collect(output.read) { [self] in outputBytes += $0 }
    collect(errors.read) { [self] in errorBytes += $0 }
    Thread.detachNewThread { [self] in awaitExit() }
  }

  public var output: String { locked { String(decoding: outputBytes, as: UTF8.self) } }
  public var errors: String { locked { String(decoding: errorBytes, as: UTF8.self) } }
  public var isRunning: Bool { locked { exitStatus == nil } }

  /// Complete lines of both streams, the output's first.
  public var lines: [String] { locked { currentLines } }

  /// The first line of either stream that holds `text`; nil when none came in time or the process ended without one.
  public func waitForLine(containing text: String, within limit: Duration = .seconds(10)) -> String? {
    var found: String?
    wait(within: limit) { [self] in
      found = currentLines.first { $0.contains(text) }
      return found != nil || (exitStatus != nil && openStreams == 0)
    }
    return found
  }

  /// The exit status once the process has ended and its streams are read, or nil at the limit.
  public func waitForExit(within limit: Duration) -> CInt? {
    wait(within: limit) { [self] in exitStatus != nil && openStreams == 0 }
    return locked { exitStatus }
  }

  /// Sends a signal to the process alone.
  public func signal(_ number: CInt) {
    locked { if !isReaped { _ = Glibc.kill(pid, number) } }
  }

  /// Asks the group to end with SIGTERM, and kills it after `grace`. Returns the exit status.
  @discardableResult
  public func terminate(grace: Duration = .seconds(5)) -> CInt? {
    locked { if !isReaped { _ = Glibc.kill(-pid, SIGTERM) } }
    let status = waitForExit(within: grace)
    kill()
    return status ?? waitForExit(within: .seconds(5))
  }

  /// Kills the whole group.
  public func kill() {
    locked { if !isReaped { _ = Glibc.kill(-pid, SIGKILL) } }
  }

  private func locked<Result>(_ body: () -> Result) -> Result {
    condition.lock()
    defer { condition.unlock() }
    return body()
  }

  /// To be used under the lock.
  private var currentLines: [String] {
    [outputBytes, errorBytes].flatMap { bytes in
      bytes.split(separator: 10, omittingEmptySubsequences: false).dropLast().map {
        String(decoding: $0, as: UTF8.self)
      }
    }
  }

  /// Waits until `isDone`, which is asked under the lock, or the limit.
  private func wait(within limit: Duration, until isDone: () -> Bool) {
    let end = Date(timeIntervalSinceNow: limit / .seconds(1))
    condition.lock()
    defer { condition.unlock() }
    while !isDone() { if !condition.wait(until: end) { break } }
  }

  private func collect(_ descriptor: SharedDescriptor, _ append: @escaping @Sendable ([UInt8]) -> Void) {
    Thread.detachNewThread { [self] in
      var chunk = [UInt8](repeating: 0, count: 65_536)
      while true {
        let count = read(descriptor.raw, &chunk, chunk.count)
        if count < 0, errno == EINTR { continue }
        locked {
          if count > 0 { append(Array(chunk[..<count])) } else { openStreams -= 1 }
          condition.broadcast()
        }
        if count <= 0 { return }
      }
    }
  }

  private func awaitExit() {
    var information = siginfo_t()
    while waitid(P_PID, id_t(pid), &information, WEXITED | WNOWAIT) == -1, errno == EINTR {}
    locked {
      // Still a zombie here, so the number cannot belong to anybody else's group.
      _ = Glibc.kill(-pid, SIGKILL)
      Guardian.shared?.forget(group: pid)
      var status: CInt = 0
      waitpid(pid, &status, 0)
      isReaped = true
      exitStatus = status & 0x7f == 0 ? status >> 8 & 0xff : 128 + status & 0x7f
      condition.broadcast()
    }
  }

  private static func pipe() throws -> (read: SharedDescriptor, write: SharedDescriptor) {
    try inheritanceLock.withLock { _ in
      var ends: [CInt] = [-1, -1]
      try system("pipe") { Glibc.pipe(&ends) }
      for end in ends { try setCloseOnExec(end) }
      return (SharedDescriptor(Descriptor(owning: ends[0])), SharedDescriptor(Descriptor(owning: ends[1])))
    }
  }

  /// Input as a file without a name, so that nobody has to feed a pipe.
  private static func file(holding text: String) throws -> SharedDescriptor {
    if text.isEmpty { return SharedDescriptor(try Descriptor.open("/dev/null", O_RDONLY)) }
    let file = SharedDescriptor(try Descriptor.open("/tmp", O_RDWR | 0o20_200_000))  // O_TMPFILE
    let bytes = Array(text.utf8)
    try system("write") { write(file.raw, bytes, bytes.count) }
    try system("lseek") { lseek(file.raw, 0, SEEK_SET) }
    return file
  }

  /// Starts a program with `descriptors` as its first ones, in a process group of its own.
  static func spawn(
    _ path: String, _ command: [String], environment: [String: String], descriptors: [CInt]
  ) throws -> pid_t {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    for (number, descriptor) in descriptors.enumerated() {
      posix_spawn_file_actions_adddup2(&actions, descriptor, CInt(number))
    }
    var attributes = posix_spawnattr_t()
    posix_spawnattr_init(&attributes)
    defer { posix_spawnattr_destroy(&attributes) }
    var none = sigset_t()
    sigemptyset(&none)
    var every = sigset_t()
    sigfillset(&every)
    posix_spawnattr_setsigmask(&attributes, &none)
    posix_spawnattr_setsigdefault(&attributes, &every)
    posix_spawnattr_setpgroup(&attributes, 0)
    posix_spawnattr_setflags(
      &attributes, Int16(POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))
    var arguments = command.map { strdup($0) } + [nil]
    var variables = environment.map { strdup("\($0.key)=\($0.value)") } + [nil]
    defer { (arguments + variables).forEach { free($0) } }
    var pid: pid_t = 0
    let result = inheritanceLock.withLock { _ in
      posix_spawn(&pid, path, &actions, &attributes, &arguments, &variables)
    }
    guard result == 0 else { throw SystemError("posix_spawn", result, subject: path) }
    return pid
  }
}
