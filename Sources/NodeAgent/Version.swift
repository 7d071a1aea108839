/// The version of this program.
public enum NodeAgentVersion {
  public static let current = "0.1.0"
}
