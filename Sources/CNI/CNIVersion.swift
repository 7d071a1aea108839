/// A version of the CNI specification.
public enum CNIVersion: String, CaseIterable, Comparable, Sendable {
  case v0_1_0 = "0.1.0"
  case v0_2_0 = "0.2.0"
  case v0_3_0 = "0.3.0"
  case v0_3_1 = "0.3.1"
  case v0_4_0 = "0.4.0"
  case v1_0_0 = "1.0.0"
  case v1_1_0 = "1.1.0"

  /// Versions that write a result the same way.
  public enum ResultForm: Sendable {
    /// `ip4` and `ip6`.
    case separateFamilies
    /// `interfaces`, `ips` with a `version`, `routes`.
    case versionedAddresses
    /// The same without `version`.
    case plainAddresses
  }

  /// What a configuration that names none means.
  public static let unnamed = CNIVersion.v0_1_0
  public static let newest = CNIVersion.v1_1_0

  public var resultForm: ResultForm {
    switch self {
    case .v0_1_0, .v0_2_0: .separateFamilies
    case .v0_3_0, .v0_3_1, .v0_4_0: .versionedAddresses
    case .v1_0_0, .v1_1_0: .plainAddresses
    }
  }

  public static func < (left: CNIVersion, right: CNIVersion) -> Bool {
    allCases.firstIndex(of: left) ?? 0 < allCases.firstIndex(of: right) ?? 0
  }
}
