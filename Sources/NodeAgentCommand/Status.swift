import ArgumentParser
import Glibc
import NodeAgent

struct Status: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says what a running node agent has proven about each workload.",
    discussion: """
      States: PROVEN (captured, and ztunnel listens), PENDING (captured, but no ztunnel serves it: connections are \
      refused), FENCED (not proven, and cut off), EXPOSED (not proven, and not cut off), WAITING (no namespace yet), \
      LEAVING, OUTSIDE (not in the mesh, on purpose). ESCAPED counts packets that left past ztunnel.

      Exit status: 0 when every workload is PROVEN or OUTSIDE, 1 when one is not, 2 when no agent answers.
      """)

  @Flag(help: "Print JSON.")
  var json = false

  @Option(
    help: ArgumentHelp(
      "The agent's control socket; also AMBIENT_STATUS_SOCKET. (default: \(NodeAgentConfiguration.defaultStatusSocket))",
      valueName: "path"))
  var socket: String?

  func run() throws {
    let path = socket ?? Environment.read()["AMBIENT_STATUS_SOCKET"] ?? NodeAgentConfiguration.defaultStatusSocket
    let answer: StatusQuery.Answer
    do { answer = try StatusQuery.ask(path: path, json: json) } catch {
      let line = Array("\(error)\n".utf8)
      _ = write(STDERR_FILENO, line, line.count)
      throw ExitCode(2)
    }
    print(answer.text, terminator: "")
    if !answer.isAsWanted { throw ExitCode(1) }
  }
}
