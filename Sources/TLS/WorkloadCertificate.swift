import Vocabulary

/// What a workload proves itself with and whom it trusts: the answer of a certificate authority (identity.md §4).
public struct WorkloadCertificate: Sendable {
  /// The leaf.
  public let leaf: Certificate
  /// Certificates between the leaf and a root, in signing order; never a root.
  public let intermediates: [Certificate]
  /// The leaf's key.
  public let privateKey: PrivateKey
  /// The trust bundle: every one of these is a trust anchor, for peers in both directions.
  public let roots: [Certificate]
  /// Trust bundles of other trust domains, by domain: each vouches for its own domain alone.
  public let federatedRoots: [String: [Certificate]]

  /// The leaf's first SPIFFE id.
  public var identity: SPIFFEIdentity? { leaf.identity }

  /// Leaf, then intermediates: what is presented to peers.
  public var chain: [Certificate] { [leaf] + intermediates }

  /// Puts a chain (leaf first), its key and its trust bundle together. Members of the chain that are roots are left
  /// out, since peers hold their own copy.
  ///
  /// Throws `certificateMalformed` for an empty chain or bundle and `keyMismatch` where the key is not the leaf's.
  public init(
    chain: [Certificate], privateKey: PrivateKey, roots: [Certificate], federatedRoots: [String: [Certificate]] = [:]
  ) throws(TLSError) {
    guard let leaf = chain.first else {
      throw .certificateMalformed("workload certificate", reason: "the chain is empty")
    }
    guard !roots.isEmpty else {
      throw .certificateMalformed("workload certificate", reason: "the trust bundle is empty")
    }
    guard leaf.matches(privateKey) else { throw .keyMismatch(leaf.identity?.description ?? leaf.subject) }
    self.leaf = leaf
    intermediates = chain.dropFirst().filter { !$0.isSelfSigned }
    self.privateKey = privateKey
    self.roots = roots
    self.federatedRoots = federatedRoots
  }
}
