import ArgumentParser
import NodeAgent

struct Version: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Prints the version.")

  func run() {
    print("node-agent \(NodeAgentVersion.current)")
  }
}
