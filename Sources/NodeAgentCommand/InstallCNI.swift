import ArgumentParser
import NodeAgent

/// The name under which the charts of the reference start its agent.
struct InstallCNI: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "install-cni",
    abstract: "Runs the daemon as a node's agent in Kubernetes, with the flags of Istio's.",
    discussion: """
      Takes the flags that are twins of environment variables (--cni-agent-run-dir for CNI_AGENT_RUN_DIR), \
      --log_output_level and --log_as_json. Flags win over variables. What is not known is logged and passed over.
      """)

  @Argument(parsing: .captureForPassthrough, help: "Flags of Istio's agent.")
  var arguments: [String] = []

  func run() throws {
    // What is passed through holds the request for help, too.
    if arguments.contains("--help") || arguments.contains("-h") { throw CleanExit.helpRequest(self) }
    let given = AgentArguments(arguments)
    var flags = NodeAgentConfiguration.Flags()
    flags.source = "kubernetes"
    try Daemon.run(
      flags, environment: Environment.read().merging(given.variables) { $1 }, passedOver: given.unknown)
  }
}
