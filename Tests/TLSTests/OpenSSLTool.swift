import Foundation

/// The `openssl` command, which stands for every TLS peer that is not ours.
enum OpenSSLTool {
  struct TimedOut: Error {}

  /// A running `openssl` whose output can be read when it has ended.
  final class Running {
    let process = Process()
    private let input = Pipe()
    private let path = FileManager.default.temporaryDirectory.appendingPathComponent("openssl-\(UUID().uuidString)")

    init(_ arguments: [String]) throws {
      try Data().write(to: path)
      let output = try FileHandle(forWritingTo: path)
      process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
      process.arguments = ["openssl"] + arguments
      process.standardInput = input
      process.standardOutput = output
      process.standardError = output
      try process.run()
    }

    deinit {
      if process.isRunning { process.terminate() }
      try? FileManager.default.removeItem(at: path)
    }

    /// Everything it has written so far, on both of its outputs.
    var output: String { (try? String(contentsOf: path, encoding: .utf8)) ?? "" }

    func closeInput() { try? input.fileHandleForWriting.close() }

    /// The first match of `pattern` in the output, waited for at most ten seconds.
    func waitFor<Value>(_ find: (String) -> Value?) throws -> Value {
      for _ in 0..<1000 {
        if let value = find(output) { return value }
        Thread.sleep(forTimeInterval: 0.01)
      }
      throw TimedOut()
    }

    func waitForExit() throws -> Int32 {
      for _ in 0..<1000 where process.isRunning { Thread.sleep(forTimeInterval: 0.01) }
      if process.isRunning { throw TimedOut() }
      return process.terminationStatus
    }
  }

  static func run(_ arguments: [String]) throws -> (status: Int32, output: String) {
    let running = try Running(arguments)
    running.closeInput()
    let status = try running.waitForExit()
    return (status, running.output)
  }
}
