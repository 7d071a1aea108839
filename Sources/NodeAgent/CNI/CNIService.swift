import CNI
import HTTPServer
import Kubernetes
import Linux
import Logging

/// All that the agent does for the CNI plugin: the endpoint that it asks, and the plugin's being on the node. Belongs to
/// its event loop.
final class CNIService {
  /// For questions under way when the agent ends.
  private static let farewell = Duration.seconds(2)

  private let settings: CNISettings
  private let logger: Logger
  private let metrics: AgentMetrics
  private let installation: CNIInstallation
  private var endpoint: CNIEndpoint?

  init(_ settings: CNISettings, threads: BlockingThreads, metrics: AgentMetrics, on loop: EventLoop) {
    self.settings = settings
    self.metrics = metrics
    logger = Logger(label: "cni")
    installation = CNIInstallation(settings, threads: threads, logger: logger, metrics: metrics, on: loop)
  }

  /// True while new pods pass through the plugin.
  var isReady: Bool {
    installation.noteReadiness()
    return installation.isReady
  }

  /// Listens for the plugin, which an earlier agent may have left on the node. Throws ``HTTPServerError``.
  func listen(for admission: any PodAdmission, on loop: EventLoop) throws(HTTPServerError) {
    endpoint = try CNIEndpoint(
      path: settings.socketPath, admission: admission, logger: logger, metrics: metrics, on: loop)
    logger.info("the CNI plugin is listened for", metadata: ["path": "\(settings.socketPath)"])
  }

  /// Puts the plugin on the node: once there is somebody to answer it.
  func install() { installation.start() }

  /// `daemonSet` asks the API server about the DaemonSet this agent belongs to. True when no other agent follows, and so
  /// nothing of ours is to stay on the node.
  func leave(_ daemonSet: () async -> DepartureDecision.DaemonSet?) async -> Bool {
    var isLast = false
    await installation.stop()
    let decision = DepartureDecision.decide(
      alwaysCleansUp: settings.alwaysCleansUp, daemonSet: settings.alwaysCleansUp ? nil : await daemonSet())
    switch decision {
    case .keep(let reason):
      logger.info("the CNI plugin stays: pods of the mesh wait for the next agent", metadata: ["reason": "\(reason)"])
    case .clean(let reason):
      logger.info("the CNI plugin goes", metadata: ["reason": "\(reason)"])
      isLast = true
      await installation.remove()
    }
    await endpoint?.stop(within: Self.farewell)
    return isLast
  }
}
