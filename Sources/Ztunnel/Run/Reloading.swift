import Linux
import Logging
import Telemetry

/// What SIGHUP has read anew. Each part says what it did.
struct Reloading {
  let meshFile: MeshFileSource?
  let levels: LogLevels
  let logger: Logger

  /// Reads everything anew that can be. What comes from the environment cannot.
  func perform() {
    meshFile?.reread()
    // Without further clauses it cannot fail.
    let filter = try? levels.reset()
    logger.info(
      "reloaded on SIGHUP",
      metadata: [
        "mesh_file": "\(meshFile == nil ? "none" : "read anew")",
        "log_levels": "\(filter.map { "\($0)" } ?? "unchanged")",
        "authority_roots_and_token": "looked at whenever they are used", "environment": "unchanged: it takes a restart",
      ])
  }
}
