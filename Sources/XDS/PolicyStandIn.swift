import IstioAPI
import Mesh
import Vocabulary

/// What is in force for a policy that arrived and is not understood, where there is no earlier version to keep.
///
/// It must not be open because of it. An ALLOW policy that is not understood allows nobody, and so denies what no
/// other one allows; of every other it must be feared that it denies, so it does. A policy that only reports stands for
/// nothing. Where not even its scope is understood, the namespace in its name is closed; workloads that list it are in
/// any case, since it is known to none.
enum PolicyStandIn {
  static func policy(name: String, bytes: [UInt8]) -> AuthorizationPolicy? {
    let message = try? Istio_Security_Authorization(serializedBytes: bytes, partial: true)
    if let message, message.dryRun, AuthorizationPolicy.action(message.action) != nil { return nil }
    let parts = name.split(separator: "/", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
    guard parts.count == 2 else { return nil }
    let action = message.flatMap { AuthorizationPolicy.action($0.action) } ?? .deny
    return AuthorizationPolicy(
      name: parts[1], namespace: parts[0],
      scope: message.flatMap { AuthorizationPolicy.scope($0.scope) } ?? .namespace, action: action,
      // A rule without clauses holds for everybody.
      rules: action == .deny ? [.init([])] : [])
  }
}
