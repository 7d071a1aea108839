import ArgumentParser
import Linux
import Vocabulary
import Ztunnel

/// One screen about a running proxy.
struct Status: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Say what a running ztunnel does, and what is wrong, on one screen.",
    discussion: "Exit status: 0 when nothing is wrong, 1 when something is, 2 when no ztunnel answers.")

  @Flag(help: "Print JSON.")
  var json = false

  @Option(help: ArgumentHelp("ztunnel's admin server.", valueName: "address"))
  var admin = AdminQuery.defaultAddress

  func run() throws {
    let answer: AdminQuery.Answer
    do {
      answer = try AdminQuery(address: admin)
        .get("/status", query: [("format", json ? "json" : "text")], accepted: [200, 503])
    } catch {
      StandardError.print("ztunnel: \(error)")
      throw ExitCode(2)
    }
    print(String(decoding: answer.body, as: UTF8.self), terminator: "")
    if answer.status != 200 { throw ExitCode(1) }
  }
}
