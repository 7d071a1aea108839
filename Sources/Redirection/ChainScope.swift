/// Which chains a plan is about. Chains of the mesh outside the scope are neither a difference nor ever touched.
///
/// All carry the mesh's prefix, so that another agent of the mesh that takes over the node sweeps what we left behind
/// (redirection.md §7, step 4c).
enum ChainScope: Hashable, Sendable {
  /// Inside a pod: every chain of the mesh, also those of other releases and of sidecar mode, except the fence's. What is
  /// not planned goes.
  case redirection
  /// Inside a pod: the fence's two chains. They come and go while the rest stays as it is.
  case fence
  /// On the host: the one chain of redirection.md §8.2. What else has the mesh's prefix there may be somebody's sidecar.
  case hostProbes

  private static let fenceChains: Set<ChainName> = [.fenceInput, .fenceOutput]

  func owns(_ chain: ChainName) -> Bool {
    switch self {
    case .redirection: chain.isOfMesh && !Self.fenceChains.contains(chain)
    case .fence: Self.fenceChains.contains(chain)
    case .hostProbes: chain == .hostProbes
    }
  }

  /// True for a rule that enters a chain of this scope, whatever its conditions.
  func entered(by rule: Rule) -> Bool { rule.destinationChain.map(owns) ?? false }

  /// True for a rule that may stand ahead of this scope's jumps: what the fence drops is nobody else's business.
  func yields(to rule: Rule) -> Bool { self == .redirection && ChainScope.fence.entered(by: rule) }
}
