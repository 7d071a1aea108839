import ArgumentParser
import JSON
import Linux
import NodeAgent

struct Explain: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says why a pod of this node is captured, or not, and what to do.",
    discussion: """
      Exit status: 0 captured and proven, 1 its traffic is cut (pending, fenced, waiting, leaving), 2 its traffic leaves \
      as it is (outside, exposed), 3 not known, or no agent answers.
      """)

  @Argument(help: ArgumentHelp("namespace/name, a uid, or a name.", valueName: "pod"))
  var pod: String

  @Flag(help: "Print JSON.")
  var json = false

  @OptionGroup var socket: AgentSocket

  @Option(
    help: ArgumentHelp(
      "A file that `node-agent status --json` was written to, on this node or another, instead of a running agent.",
      valueName: "file"))
  var status: String?

  private func answer() throws -> [UInt8] {
    if let status { return try WholeFile.read(status, limit: 64 << 20) }
    return Array(try StatusQuery.ask(path: socket.path, json: true).text.utf8)
  }

  func validate() throws {
    if socket.socket != nil, status != nil { throw ValidationError("--socket and --status exclude each other.") }
  }

  func run() throws {
    let explanation: EnrolmentExplanation
    do {
      explanation = EnrolmentExplanation(pod: pod, status: try JSONValue.parse(try answer()))
    } catch {
      StandardError.print("\(error)")
      throw ExitCode(EnrolmentExplanation.Outcome.unknown.rawValue)
    }
    print(json ? String(decoding: explanation.json.indentedBytes, as: UTF8.self) : explanation.text, terminator: "")
    throw ExitCode(explanation.outcome.rawValue)
  }
}
