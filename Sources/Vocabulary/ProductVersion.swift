import CRevision

/// What this build calls itself, in every command and log.
public enum ProductVersion {
  /// Semantic version.
  public static let text = "0.1.0"

  /// The commit it was built from, with `-dirty` where files differed from it; `unknown` where whoever built it did not say.
  public static let revision = String(cString: ambient_revision())

  /// For people: both.
  public static let full = "\(text) (\(revision))"

  #if DEBUG
    /// How it was built.
    public static let profile = "debug"
  #else
    public static let profile = "release"
  #endif

  /// For programs: one object on one line. `program` needs no escaping.
  public static func json(of program: String) -> String {
    "{\"program\": \"\(program)\", \"version\": \"\(text)\", \"gitRevision\": \"\(revision)\", "
      + "\"buildProfile\": \"\(profile)\"}"
  }
}
