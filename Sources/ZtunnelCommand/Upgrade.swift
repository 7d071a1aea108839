import ArgumentParser
import JSON
import Linux
import Vocabulary
import Ztunnel

/// Has a running proxy replaced by the program file as it is now.
struct Upgrade: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Replace a running ztunnel by its program file as it is now, without losing a connection.",
    discussion: """
      The next ztunnel is started beside the running one, with the same environment, and takes over new connections and \
      plain ones that are open. Tunnelled ones run on in the old process until they end, at most \
      AMBIENT_UPGRADE_DEADLINE (default 1h). Returns when the next one serves; if it cannot, the running one goes on.

      For systemd and other machines without Kubernetes. What changed in the unit's file takes a restart. Exit status: 0 \
      when it was replaced, 1 when it goes on, 2 when no ztunnel answers.
      """)

  @Flag(help: "Print JSON.")
  var json = false

  @Option(help: ArgumentHelp("ztunnel's admin server.", valueName: "address"))
  var admin = AdminQuery.defaultAddress

  func run() throws {
    let answer: AdminQuery.Answer
    do { answer = try AdminQuery(address: admin).post("/upgrade") } catch {
      StandardError.print("ztunnel: \(error)")
      if case .refused = error { throw ExitCode(1) }
      throw ExitCode(2)
    }
    guard !json else { return print(String(decoding: answer.body, as: UTF8.self), terminator: "") }
    let value = try? JSONValue.parse(answer.body)
    let connections = value?["openConnections"]?.integer ?? 0
    print(
      "process \(value?["successor"]?.integer ?? 0) has taken over; the one before "
        + (connections == 0
          ? "has nothing left to do"
          : "sees \(connections) open \(connections == 1 ? "connection" : "connections") to the end"))
  }
}
