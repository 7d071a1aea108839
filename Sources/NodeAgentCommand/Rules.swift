import ArgumentParser
import Glibc
import JSON
import NodeAgent
import Redirection

struct Rules: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Prints the redirection of a network namespace, in iptables-save form.",
    discussion: """
      Without a flag, what is there now. Nothing is ever changed. The settings come from the same environment \
      variables as those of `run`, and from the flags here; only --dry-run and --check use them.
      """)

  @Option(help: ArgumentHelp("The namespace, such as /run/netns/web or /proc/123/ns/net.", valueName: "path"))
  var netns: String

  @Flag(help: "Print what enrolment would write.")
  var dryRun = false

  @Flag(help: "Print how the namespace deviates from that, and exit with status 1 if it does (2: it cannot be read).")
  var check = false

  @Flag(help: "Print JSON.")
  var json = false

  @Flag(inversion: .prefixedNo, help: "Capture DNS.")
  var dnsCapture: Bool?

  @Flag(name: .customLong("ipv6"), inversion: .prefixedNo, help: "Write IPv6 rules.")
  var ipv6: Bool?

  @Flag(help: "Leave inbound plaintext alone (ingress mode).")
  var bypassInboundCapture = false

  @Option(help: ArgumentHelp("Interface whose traffic is outbound traffic; may be repeated.", valueName: "interface"))
  var rerouteInterface: [String] = []

  func validate() throws {
    if dryRun, check { throw ValidationError("--dry-run and --check exclude each other.") }
  }

  func run() throws {
    let question = try question()
    let report: RulesReport
    do { report = try RulesReport.answer(question, in: netns) } catch {
      let line = Array("\(error)\n".utf8)
      _ = write(STDERR_FILENO, line, line.count)
      // Neither as wanted nor deviating, but unknown.
      throw ExitCode(2)
    }
    print(json ? String(decoding: report.json.indentedBytes, as: UTF8.self) : report.text, terminator: "")
    if !report.isAsWanted { throw ExitCode(1) }
  }

  private func question() throws -> RulesReport.Question {
    guard dryRun || check else { return .current }
    var settings: RedirectionSettings
    do { settings = try NodeAgentConfiguration.redirection(Environment.read()) } catch {
      throw ValidationError("\(error)")
    }
    settings.dnsCapture = dnsCapture ?? settings.dnsCapture
    settings.ipv6 = ipv6 ?? settings.ipv6
    settings.bypassInboundCapture = bypassInboundCapture
    settings.rerouteInterfaces = try rerouteInterface.map { text in
      guard let name = InterfaceName(text) else { throw ValidationError("`\(text)` is no name of an interface.") }
      return name
    }
    return dryRun ? .planned(settings) : .deviations(settings)
  }
}
