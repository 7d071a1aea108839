/// The identity of a service account: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>` (identity.md §2).
public struct SPIFFEIdentity: Hashable, Sendable, CustomStringConvertible {
  public var trustDomain: String
  public var namespace: String
  public var serviceAccount: String

  public init(trustDomain: String, namespace: String, serviceAccount: String) {
    self.trustDomain = trustDomain
    self.namespace = namespace
    self.serviceAccount = serviceAccount
  }

  /// Parses the URI form. Exactly five parts, `ns` and `sa` literal, case-sensitive, no decoding; parts may be empty,
  /// as peers' certificates are allowed to have them (hbone.md §2.4).
  public init?(uri: some StringProtocol) {
    guard uri.hasPrefix("spiffe://") else { return nil }
    let parts = uri.dropFirst("spiffe://".count).split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 5, parts[1] == "ns", parts[3] == "sa" else { return nil }
    self.init(trustDomain: String(parts[0]), namespace: String(parts[2]), serviceAccount: String(parts[4]))
  }

  /// The text policies compare principals with: the URI without its scheme (policy.md §4).
  public var principal: String { "\(trustDomain)/ns/\(namespace)/sa/\(serviceAccount)" }

  /// The URI.
  public var description: String { "spiffe://\(principal)" }
}
