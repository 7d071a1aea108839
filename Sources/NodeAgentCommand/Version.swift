import ArgumentParser
import NodeAgent
import Vocabulary

struct Version: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Prints the version.")

  @Flag(help: "Print JSON.")
  var json = false

  func run() {
    print(json ? ProductVersion.json(of: "node-agent") : "node-agent \(ProductVersion.full)")
  }
}
