import ArgumentParser
import Linux
import NodeAgent

struct Status: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Says what a running node agent has proven about each workload.",
    discussion: """
      States:
        PROVEN    captured, and ztunnel serves it
        PENDING   captured, but no ztunnel serves it: its connections wait or are
                  refused
        FENCED    its capture is not proven, and it is cut off
        EXPOSED   its capture is not proven, and it is not cut off
        WAITING   it has no namespace yet
        LEAVING   on its way out of the mesh
        OUTSIDE   not in the mesh, on purpose

      ESCAPED counts packets that left past ztunnel. `node-agent explain` says of one workload what to do.

      Exit status: 0 when every workload is PROVEN or OUTSIDE, 1 when one is not, 2 when no agent answers.
      """)

  @Flag(help: "Print JSON.")
  var json = false

  @OptionGroup var socket: AgentSocket

  func run() throws {
    let answer: StatusQuery.Answer
    do { answer = try StatusQuery.ask(path: socket.path, json: json) } catch {
      StandardError.print("\(error)")
      throw ExitCode(2)
    }
    print(answer.text, terminator: "")
    if !answer.isAsWanted { throw ExitCode(1) }
  }
}
