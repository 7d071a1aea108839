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
  ///
  /// Only visible ASCII, at most 2048 bytes: a certificate cannot hold other characters in a URI, and to Swift strings
  /// different bytes beyond ASCII can be the same text, so that one identity could pass for another.
  public init?(uri: some StringProtocol) {
    guard uri.utf8.count <= 2048, uri.utf8.allSatisfy({ (0x21...0x7e).contains($0) }), uri.hasPrefix("spiffe://")
    else { return nil }
    let parts = uri.dropFirst("spiffe://".count).split(separator: "/", omittingEmptySubsequences: false)
    guard parts.count == 5, parts[1] == "ns", parts[3] == "sa" else { return nil }
    self.init(trustDomain: String(parts[0]), namespace: String(parts[2]), serviceAccount: String(parts[4]))
  }

  /// The text policies compare principals with: the URI without its scheme (policy.md §4).
  public var principal: String { "\(trustDomain)/ns/\(namespace)/sa/\(serviceAccount)" }

  /// The URI.
  public var description: String { "spiffe://\(principal)" }
}
