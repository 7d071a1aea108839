import Glibc
import Identity
import Linux
import Logging
import Telemetry
import Vocabulary
import ZDS

/// The process: environment in, exit out. What it does in between is ``Daemon``'s.
public struct ZtunnelProcess {
  private let configuration: ZtunnelConfiguration
  private let log: LogPipeline
  private let logger: Logger

  /// Reads the environment and sets logging up. Throws a `CodedError` that says what is wrong with it. Once a process,
  /// before other threads start.
  public init(environment: [String: String]) throws {
    SignalSource.ignoreBrokenPipes()
    SignalSource.block([SIGTERM, SIGINT])
    configuration = try ZtunnelConfiguration(
      environment: environment, processorCount: Int(sysconf(CInt(_SC_NPROCESSORS_ONLN))))
    let format = LogFormat(environment: environment)
    log = bootstrapLogging(
      format: format, filter: try LogFilter(environmentValue: configuration.logFilter),
      writer: try .standardOutput(format: format))
    logger = Logger(label: "ztunnel::app")
  }

  /// Runs until SIGTERM or SIGINT, then drains. The calling thread becomes the control loop. Throws a `CodedError` when
  /// it cannot start.
  public func run() throws {
    defer { _ = log.writer.flush(atMost: .seconds(1)) }
    logger.info("starting", metadata: ["version": "\(ProductVersion.text)"])
    for (name, value) in configuration.describe() {
      logger.info("configuration", metadata: ["name": "\(name)", "value": "\(value)"])
    }
    logger.info("limits", metadata: ["descriptors": "\(ProcessLimits.raiseDescriptorLimit())"])
    try ProcessLimits.checkCapabilities(mark: configuration.packetMark)
    for name in configuration.discovery?.node.skippedVariables ?? [] {
      logger.warning("not sent to the control plane: the value is no JSON", metadata: ["variable": "\(name)"])
    }
    let isAlone = configuration.discovery == nil && configuration.authority == nil
    let controlPlane = isAlone ? nil : try ControlPlane()
    let control = try EventLoop(name: "ztunnel-control")
    let daemon = try Daemon(
      configuration: configuration, certificates: CertificateStore(authority: try authority(controlPlane)),
      controlPlane: controlPlane, log: log, socketPath: try UnixSocketPath(configuration.zdsSocketPath),
      control: control)
    control.spawn { daemon.start() }
    control.runHere()
    daemon.stopWorkers()
    controlPlane?.end()
  }

  /// A directory of this machine where there is one, else the control plane.
  private func authority(_ controlPlane: ControlPlane?) throws -> any CertificateAuthority {
    if let endpoint = configuration.authority, let controlPlane {
      return controlPlane.authority(endpoint, lifetime: configuration.certificateTTL)
    }
    return try LocalAuthority(directory: configuration.localCAPath ?? "", lifetime: configuration.certificateTTL)
  }
}
