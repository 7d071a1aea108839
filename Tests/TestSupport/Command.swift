import Foundation
import Linux

/// How a finished command ended.
public struct CommandResult: Sendable {
  /// The exit status; 128 + n when signal n ended it, as shells report it.
  public let status: CInt
  public let output: String
  public let errors: String

  public var succeeded: Bool { status == 0 }
}

/// Why a command gave no result.
public enum CommandError: Error, CustomStringConvertible {
  case notFound(String)
  case timedOut([String], Duration, output: String, errors: String)
  case failed([String], CommandResult)

  public var description: String {
    switch self {
    case .notFound(let name): "there is no command \(name)"
    case .timedOut(let command, let limit, let output, let errors):
      "\(command.joined(separator: " ")) did not end within \(limit); it wrote: \(output)\(errors)"
    case .failed(let command, let result):
      "\(command.joined(separator: " ")) ended with status \(result.status): \(result.errors)\(result.output)"
    }
  }
}

/// Commands run to their end.
public enum Command {
  /// Runs a command, feeding it `input`, in the given network namespace or this one. Kills it and throws
  /// ``CommandError/timedOut(_:_:output:errors:)`` at the limit.
  public static func run(
    _ command: [String], input: String = "", in namespace: NetworkNamespace? = nil, timeout: Duration = .seconds(10)
  ) throws -> CommandResult {
    let process = try RunningProcess(command, input: input, in: namespace)
    defer { process.kill() }
    guard let status = process.waitForExit(within: timeout) else {
      process.kill()
      throw CommandError.timedOut(command, timeout, output: process.output, errors: process.errors)
    }
    return CommandResult(status: status, output: process.output, errors: process.errors)
  }

  /// The same, throwing ``CommandError/failed(_:_:)`` for any status but 0. Returns what it wrote to its output.
  @discardableResult
  public static func mustRun(
    _ command: [String], input: String = "", in namespace: NetworkNamespace? = nil, timeout: Duration = .seconds(10)
  ) throws -> String {
    let result = try run(command, input: input, in: namespace, timeout: timeout)
    guard result.succeeded else { throw CommandError.failed(command, result) }
    return result.output
  }

  /// Where a command is; names with a slash are paths already.
  public static func path(of name: String) -> String? {
    let manager = FileManager.default
    if name.contains("/") { return manager.isExecutableFile(atPath: name) ? name : nil }
    let directories = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map(String.init)
    return (directories + ["/usr/sbin", "/sbin", "/usr/bin", "/bin"])
      .map { "\($0)/\(name)" }
      .first { manager.isExecutableFile(atPath: $0) }
  }
}
