import Foundation
import Synchronization

/// Names of test namespaces carry the process that made them, so that a later run can remove what a killed one left.
enum LeftoverNamespaces {
  private static let mark = "ambtest-"

  /// `ambtest-<pid>-<random>-`.
  static func newPrefix() -> String {
    "\(mark)\(getpid())-\(String(UInt32.random(in: 0...UInt32.max), radix: 36))-"
  }

  /// Removes, once a process, the namespaces of test processes that no longer exist.
  static func sweepOnce() { _ = sweep }

  private static let sweep: Void = {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: "/run/netns")) ?? []
    remove(names.filter { name in owner(of: name).map { kill($0, 0) == -1 && errno == ESRCH } ?? false })
  }()

  /// The process that made a namespace, nil for names that are not of this kind.
  static func owner(of name: String) -> pid_t? {
    guard name.hasPrefix(mark),
      let digits = name.dropFirst(mark.count).split(separator: "-", omittingEmptySubsequences: false).first,
      let pid = pid_t(digits), pid > 0
    else { return nil }
    return pid
  }

  /// Kills what still runs in the named namespaces, then removes them.
  static func remove(_ names: [String]) {
    for name in names where owner(of: name) != nil {
      let inside = (try? Command.run(["ip", "netns", "pids", name]))?.output ?? ""
      for pid in inside.split(separator: "\n").compactMap({ pid_t($0) }) where pid != getpid() { kill(pid, SIGKILL) }
      _ = try? Command.run(["ip", "netns", "delete", name])
    }
  }
}
