import Foundation

/// The environment of `scripts/python-venv`: Python with gRPC's C core, outside the repository.
public enum GRPCEnvironment {
  public static var python: String {
    let environment = ProcessInfo.processInfo.environment
    let cache = environment["XDG_CACHE_HOME"] ?? (environment["HOME"] ?? "/root") + "/.cache"
    return cache + "/ambient-mesh/grpc-venv/bin/python"
  }

  static let isUsable: Bool = {
    let result = try? Command.run([python, "-c", "import cryptography, grpc, grpc_tools"], timeout: .seconds(60))
    return result?.succeeded == true
  }()
}

extension Requirement {
  /// Python with gRPC, which `scripts/python-venv` installs.
  public static var grpc: Requirement {
    Requirement(GRPCEnvironment.isUsable, otherwise: "needs gRPC for Python: run scripts/python-venv")
  }
}
