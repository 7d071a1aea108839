import ArgumentParser
import Linux
import Mesh
import Vocabulary
import Ztunnel

/// Answers what would become of a connection.
struct Explain: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say what would become of a connection, decision by decision, and why.",
    discussion: """
      Asks the running ztunnel; with --dump, a saved /config_dump, ours or that of Istio's ztunnel. With --policy or \
      --without, the change is tried on a copy, and the connection is explained before and after it.

      Policy files hold AuthorizationPolicy resources, or the policies of a mesh file.

      Exit status: 0 allowed and encrypted, 1 denied, 2 allowed but not encrypted, 3 not known or no answer, \
      64 wrong usage.
      """)

  @Option(help: ArgumentHelp("The pod that connects.", valueName: "namespace/pod"))
  var from: String

  @Option(help: ArgumentHelp("Where it connects to: a service, an address, or namespace/pod.", valueName: "host:port"))
  var to: String

  @Flag(help: "Print JSON.")
  var json = false

  @Option(help: ArgumentHelp("A saved /config_dump; - for standard input.", valueName: "file"))
  var dump: String?

  @Option(help: ArgumentHelp("A file with policies to try; may be repeated.", valueName: "file"))
  var policy: [String] = []

  @Option(help: ArgumentHelp("A policy to try without; may be repeated.", valueName: "namespace/name"))
  var without: [String] = []

  @Option(help: ArgumentHelp("ztunnel's admin server.", valueName: "address"))
  var admin = AdminQuery.defaultAddress

  func run() throws {
    guard let question = ConnectionQuestion(from: from, to: to) else {
      throw ValidationError("give --from as namespace/pod, and --to as host:port, address:port or namespace/pod:port.")
    }
    let run = ExplainRun(
      question: question, dump: dump, policyFiles: policy, withoutPolicies: without, admin: admin)
    let answer: ExplainRun.Answer
    do { answer = try run.answer(json: json) } catch let error as any CodedError {
      StandardError.print("ztunnel: \(error)")
      throw ExitCode(Explanation.Outcome.unknown.exitStatus)
    }
    print(answer.text, terminator: "")
    throw ExitCode(answer.status)
  }
}
