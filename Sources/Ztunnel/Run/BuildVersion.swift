/// What this build calls itself.
public enum BuildVersion {
  /// Semantic version.
  public static let text = "0.1.0"
}
