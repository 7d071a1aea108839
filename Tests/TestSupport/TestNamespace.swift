import Foundation
import Linux
import Vocabulary

/// A network namespace a test made, with loopback up. It goes away with its ``TestNetwork``.
public final class TestNamespace: Sendable {
  /// What the test calls it.
  public let label: String
  /// Its unique name under `/run/netns`.
  public let name: String
  public let namespace: NetworkNamespace

  unowned let network: TestNetwork

  init(label: String, name: String, network: TestNetwork) throws {
    self.label = label
    self.name = name
    self.network = network
    try Command.mustRun(["ip", "netns", "add", name])
    namespace = try NetworkNamespace(path: "/run/netns/\(name)")
    try setKernelParameters([
      "net/ipv6/conf/all/disable_ipv6": "0", "net/ipv6/conf/default/disable_ipv6": "0",
      // Without duplicate detection an address can be used the moment it is there.
      "net/ipv6/conf/all/accept_dad": "0", "net/ipv6/conf/default/accept_dad": "0",
      "net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0",
    ])
    try ip(["link set lo up"])
  }

  /// Path other programs open it by.
  public var path: String { "/run/netns/\(name)" }

  /// Runs lines of `ip` commands (without the word `ip`) inside, in one go.
  public func ip(_ lines: [String]) throws {
    try Command.mustRun(["ip", "-batch", "-"], input: lines.joined(separator: "\n") + "\n", in: namespace)
  }

  /// Writes parameters under `/proc/sys`, which shows those of the writing thread's namespace.
  public func setKernelParameters(_ parameters: [String: String]) throws {
    try namespace.enter {
      for (key, value) in parameters {
        let file = try Descriptor.open("/proc/sys/\(key)", O_WRONLY)
        let bytes = Array(value.utf8)
        try system("write", key) { write(file.raw, bytes, bytes.count) }
      }
    }
  }
}

/// Anything that is a place to run commands and sockets in: a namespace, a pod, a node.
public protocol NamespaceHolder: Sendable {
  /// The place.
  var place: TestNamespace { get }
}

extension TestNamespace: NamespaceHolder {
  public var place: TestNamespace { self }
}

extension NamespaceHolder {
  /// Runs a command inside to its end; see ``Command/run(_:input:in:timeout:)``.
  public func run(_ command: [String], input: String = "", timeout: Duration = .seconds(10)) throws -> CommandResult {
    try Command.run(command, input: input, in: place.namespace, timeout: timeout)
  }

  /// The same, throwing unless it succeeds. Returns its output.
  @discardableResult
  public func mustRun(_ command: [String], input: String = "", timeout: Duration = .seconds(10)) throws -> String {
    try Command.mustRun(command, input: input, in: place.namespace, timeout: timeout)
  }

  /// Starts a command inside. It is ended when the network is torn down, if not before.
  public func spawn(_ command: [String], environment: [String: String] = [:]) throws -> RunningProcess {
    let process = try RunningProcess(command, environment: environment, in: place.namespace)
    place.network.owns(process)
    return process
  }
}
