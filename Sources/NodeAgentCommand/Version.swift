import ArgumentParser
import NodeAgent
import Vocabulary

struct Version: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Prints the version.")

  func run() {
    print("node-agent \(ProductVersion.text)")
  }
}
