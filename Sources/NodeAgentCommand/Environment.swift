import Glibc
import NodeAgent

/// The environment variables this program reads.
enum Environment {
  /// Those that are set.
  static func read() -> [String: String] {
    var values: [String: String] = [:]
    for name in AgentVariables.names {
      if let value = getenv(name) { values[name] = String(cString: value) }
    }
    return values
  }
}
