import ArgumentParser
import Glibc
import Linux
import NodeAgent
import Telemetry

/// The daemon as a process: signals, logging, exit status.
enum Daemon {
  /// Returns when the daemon has stopped in order. `passedOver` are arguments that nobody understood.
  static func run(
    _ flags: NodeAgentConfiguration.Flags, environment: [String: String], passedOver: [String] = []
  ) throws {
    // Before any thread is made: all inherit it.
    SignalSource.block(NodeAgent.signals)
    let configuration: NodeAgentConfiguration
    let filter: LogFilter
    do {
      configuration = try NodeAgentConfiguration(flags: flags, environment: environment)
      filter = try LogFilter(environmentValue: environment["LOG_LEVEL"])
    } catch { throw ValidationError("\(error)") }
    let format = LogFormat(environment: environment)
    let writer = try LogWriter.standardOutput(format: format)
    let pipeline = bootstrapLogging(format: format, filter: filter, writer: writer)
    defer { writer.flush() }
    if !passedOver.isEmpty {
      pipeline.logger(for: "node-agent").warning("arguments that are not known are passed over: \(passedOver)")
    }
    do { try NodeAgent.run(configuration, beforeExit: { writer.flush() }) } catch {
      pipeline.logger(for: "node-agent").critical("cannot start: \(error)")
      throw ExitCode.failure
    }
  }
}
