/// What this build calls itself, in every command and log.
public enum ProductVersion {
  /// Semantic version.
  public static let text = "0.1.0"
}
