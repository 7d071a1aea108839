import Foundation
import Linux
import Testing

@testable import Redirection

/// A network namespace for one test. Deleted when the value goes, also when the test fails.
final class TestNamespace: Sendable {
  let name: String
  let namespace: NetworkNamespace

  init(loopbackUp: Bool = true) throws {
    _ = NetworkNamespace.home
    name = "rdr-" + String(UInt64.random(in: .min ... .max), radix: 36)
    try Self.ip("netns", "add", name)
    namespace = try NetworkNamespace(path: "/run/netns/\(name)")
    if loopbackUp { try Self.ip("-n", name, "link", "set", "lo", "up") }
  }

  deinit {
    _ = try? Self.ip("netns", "del", name)
    unlink(lockPath)
  }

  /// A lock of the test's own, so that tests do not wait for each other or for a running daemon.
  var lockPath: String { "/tmp/\(name).lock" }
  var redirector: Redirector { Redirector(lockPath: lockPath, lockTimeout: .seconds(10)) }

  /// Runs a program inside. Gives what it printed; throws when it fails.
  @discardableResult
  func run(_ arguments: String..., input: String = "") throws -> String {
    try Command.run(["ip", "netns", "exec", name] + arguments, input: input)
  }

  /// All rules of a family as `iptables-save` prints them, without counters and comments. Sorted by table as in the
  /// listings; tables in which nothing is are left out.
  func saved(_ family: String = "iptables") throws -> String {
    let text = try run("\(family)-legacy-save")
    var tables: [String: String] = [:]
    var name = ""
    for line in text.split(separator: "\n") where !line.hasPrefix("#") {
      if line.hasPrefix("*") { name = String(line.dropFirst()) }
      let bare = line.hasPrefix(":") ? line.split(separator: " ").prefix(2).joined(separator: " ") : String(line)
      tables[name, default: ""] += bare + "\n"
    }
    return ["raw", "mangle", "nat", "filter"].compactMap { tables[$0] }
      .filter { $0.contains("\n-A ") || $0.contains(" -\n") || $0.contains(" DROP\n") }.joined()
  }

  /// All IPv4 rules with their counters.
  func counted() throws -> [Substring] {
    try run("iptables-legacy-save", "-c").split(separator: "\n").filter { $0.hasPrefix("[") }
  }

  /// Everything a removal must leave as it was.
  func everything() throws -> [String] {
    try [saved("iptables"), saved("ip6tables")]
      + ["-4", "-6"].flatMap { family in
        try [
          Self.ip("-n", name, family, "rule"), Self.ip("-n", name, family, "route", "show", "table", "all"),
        ]
      }
  }

  @discardableResult
  static func ip(_ arguments: String...) throws -> String { try Command.run(["ip"] + arguments) }

  @discardableResult
  func ip(_ arguments: String...) throws -> String { try Command.run(["ip", "-n", name] + arguments) }
}

struct Command {
  struct Failed: Error, CustomStringConvertible {
    var description: String
  }

  /// Runs a program to its end, at most 20 seconds. Gives what it printed; throws when it fails.
  @discardableResult
  static func run(_ arguments: [String], input: String = "") throws -> String {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["timeout", "20"] + arguments
    var environment = ProcessInfo.processInfo.environment
    environment["PATH"] = "/usr/sbin:/sbin:/usr/bin:/bin:" + (environment["PATH"] ?? "")
    process.environment = environment
    let output = Pipe()
    let errors = Pipe()
    let stdin = Pipe()
    process.standardOutput = output
    process.standardError = errors
    process.standardInput = stdin
    try process.run()
    stdin.fileHandleForWriting.write(Data(input.utf8))
    try stdin.fileHandleForWriting.close()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    let complaint = String(decoding: errors.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw Failed(description: "\(arguments.joined(separator: " ")): \(process.terminationStatus) \(complaint)")
    }
    return text
  }
}

extension Trait where Self == ConditionTrait {
  /// Namespaces, and the tools that look into them from outside.
  static var namespaces: ConditionTrait {
    .enabled(
      if: geteuid() == 0
        && ["ip", "iptables-legacy-save", "ip6tables-legacy-save"].allSatisfy { tool in
          ["/usr/sbin/", "/sbin/", "/usr/bin/", "/bin/"].contains { access($0 + tool, X_OK) == 0 }
        },
      "needs root, iproute2 and iptables-legacy")
  }
}
