import ArgumentParser
import NodeAgent

/// Where a running agent is asked.
struct AgentSocket: ParsableArguments {
  @Option(
    help: ArgumentHelp(
      "The agent's control socket; also AMBIENT_STATUS_SOCKET. (default: \(NodeAgentConfiguration.defaultStatusSocket))",
      valueName: "path"))
  var socket: String?

  /// What was given, or else what the environment says.
  var path: String {
    socket ?? Environment.read()["AMBIENT_STATUS_SOCKET"] ?? NodeAgentConfiguration.defaultStatusSocket
  }
}
