import ArgumentParser
import Vocabulary

@main
struct NodeAgentCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "node-agent",
    abstract: "Puts network namespaces into an ambient mesh.",
    discussion: """
      Reads which workloads belong to the mesh, writes the redirection of their traffic inside their network \
      namespaces, and hands the namespaces to ztunnel over a unix socket. When something is wrong, start with \
      `node-agent status`.
      """,
    version: ProductVersion.full,
    subcommands: [Run.self, InstallCNI.self, Rules.self, Status.self, Explain.self, Version.self],
    defaultSubcommand: Run.self)
}
