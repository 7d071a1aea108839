/// What this build calls itself, in every command and log.
public enum ProductVersion {
  /// Semantic version.
  public static let text = "0.1.0"

  #if DEBUG
    /// How it was built.
    public static let profile = "debug"
  #else
    public static let profile = "release"
  #endif

  /// For programs: one object on one line. `program` needs no escaping.
  public static func json(of program: String) -> String {
    "{\"program\": \"\(program)\", \"version\": \"\(text)\", \"buildProfile\": \"\(profile)\"}"
  }
}
