import Foundation

/// The package's executables, as built beside the running tests.
public enum BuiltProduct {
  /// Path of `.build/<configuration>/<name>`; nil when it has not been built.
  public static func path(_ name: String) -> String? {
    // The test runner loads or is the bundle; either its own path or that of the loaded bundle is in the right folder.
    let candidates = CommandLine.arguments.filter { $0.contains(".xctest") } + [executable]
    return
      candidates
      .compactMap { $0.split(separator: ".xctest").first.map { URL(fileURLWithPath: String($0)) } }
      .map { $0.deletingLastPathComponent().appending(path: name).path }
      .first { FileManager.default.isExecutableFile(atPath: $0) }
  }

  private static var executable: String {
    (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? ""
  }
}
