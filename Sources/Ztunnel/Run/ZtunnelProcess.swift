import Glibc
import Identity
import Linux
import Logging
import TLS
import Telemetry
import Vocabulary
import ZDS

/// The process: environment in, exit out. What it does in between is ``Daemon``'s.
public struct ZtunnelProcess {
  private let configuration: ZtunnelConfiguration
  private let log: LogPipeline
  private let logger: Logger
  private let inherited: InheritedDescriptors

  /// What the control loop takes as events. SIGUSR2 does nothing, unless a test asks for faults.
  static let signals = [SIGTERM, SIGINT, SIGHUP, SIGUSR2]
  /// Time after which what the start needed is given back. Too early costs little: what is needed comes back.
  private static let startLimit = Duration.seconds(1)

  /// Reads the environment and sets logging up. Throws a `CodedError` that says what is wrong with it. Once a process,
  /// before other threads start.
  public init(environment: [String: String]) throws {
    SignalSource.ignoreBrokenPipes()
    SignalSource.block(Self.signals)
    inherited = InheritedDescriptors()
    configuration = try ZtunnelConfiguration(
      environment: environment, processorCount: Int(sysconf(CInt(_SC_NPROCESSORS_ONLN))),
      meshFile: try Self.meshFile())
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
    logger.info("starting", metadata: ["version": "\(ProductVersion.text)", "revision": "\(ProductVersion.revision)"])
    for (name, value) in configuration.describe() {
      logger.info("configuration", metadata: ["name": "\(name)", "value": "\(value)"])
    }
    logger.info("limits", metadata: ["descriptors": "\(DescriptorLimit.raise())"])
    try ProcessLimits.checkCapabilities(mark: configuration.packetMark)
    for name in configuration.discovery?.node.skippedVariables ?? [] {
      logger.warning("not sent to the control plane: the value is no JSON", metadata: ["variable": "\(name)"])
    }
    let isAlone =
      configuration.discovery == nil && configuration.authority == nil && configuration.spiffeAgent == nil
    let controlPlane = isAlone ? nil : try ControlPlane()
    let control = try EventLoop(name: "ztunnel-control")
    let tls = TLSSettings(
      profile: configuration.tlsProfile,
      revocations: configuration.revocationListPath == nil ? nil : RevocationState())
    let authority = try authority(controlPlane)
    let certificates = CertificateStore(authority: authority, tls: tls)
    (authority as? SPIFFEAuthority)?.start { certificates.refresh() }
    if authority is IstioAuthority, let endpoint = configuration.authority {
      controlPlane?.watchRoots(of: endpoint, logger: Logger(label: "ztunnel::identity")) { certificates.refresh() }
    }
    let daemon = try Daemon(
      configuration: configuration, certificates: certificates, tls: tls, controlPlane: controlPlane, log: log,
      socketPath: try UnixSocketPath(configuration.zdsSocketPath), inherited: inherited, control: control)
    control.spawn {
      daemon.start()
      _ = control.schedule(after: Self.startLimit) { StartupMemory.release() }
    }
    control.runHere()
    // What it was told must not be lost with the process that told it.
    _ = ServiceNotifier.awaitProcessed(within: .seconds(2))
    daemon.stopWorkers()
    controlPlane?.end()
    daemon.endSnapshots()
  }

  /// Istio's mesh configuration file, where there is one.
  private static func meshFile() throws -> String? {
    guard FileSignature(path: ProxyConfig.meshFile) != nil else { return nil }
    return String(decoding: try WholeFile.read(ProxyConfig.meshFile, limit: ProxyConfig.maximumSize), as: UTF8.self)
  }

  /// A directory or an agent of this machine where there is one, else the control plane.
  private func authority(_ controlPlane: ControlPlane?) throws -> any CertificateAuthority {
    if let agent = configuration.spiffeAgent, let controlPlane { return controlPlane.authority(agent) }
    if let endpoint = configuration.authority, let controlPlane {
      return controlPlane.authority(endpoint, lifetime: configuration.certificateTTL)
    }
    return try LocalAuthority(directory: configuration.localCAPath ?? "", lifetime: configuration.certificateTTL)
  }
}
