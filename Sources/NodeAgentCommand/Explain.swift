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

  @Option(
    help: ArgumentHelp(
      "The agent's control socket; also AMBIENT_STATUS_SOCKET. (default: \(NodeAgentConfiguration.defaultStatusSocket))",
      valueName: "path"))
  var socket: String?

  func run() throws {
    let path = socket ?? Environment.read()["AMBIENT_STATUS_SOCKET"] ?? NodeAgentConfiguration.defaultStatusSocket
    let explanation: EnrolmentExplanation
    do {
      let answer = try StatusQuery.ask(path: path, json: true)
      explanation = EnrolmentExplanation(pod: pod, status: try JSONValue.parse(Array(answer.text.utf8)))
    } catch {
      StandardError.print("\(error)")
      throw ExitCode(EnrolmentExplanation.Outcome.unknown.rawValue)
    }
    print(json ? String(decoding: explanation.json.indentedBytes, as: UTF8.self) : explanation.text, terminator: "")
    throw ExitCode(explanation.outcome.rawValue)
  }
}
