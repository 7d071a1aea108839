import Vocabulary

/// The outcome of evaluating policies for one connection.
public struct PolicyDecision: Equatable, Sendable {
  public var verdict: PolicyVerdict
  /// What dry-run policies would have done, as far as evaluation went.
  public var dryRuns: [DryRunOutcome] = []

  public var isAllowed: Bool {
    if case .allow = verdict { true } else { false }
  }

  /// Why the connection is refused; nil when it is allowed.
  public var rejection: PolicyRejection? {
    if case .deny(let rejection) = verdict { rejection } else { nil }
  }
}

public enum PolicyVerdict: Hashable, Sendable, CustomStringConvertible {
  case allow(AllowReason)
  case deny(PolicyRejection)

  public enum AllowReason: Hashable, Sendable {
    /// Nothing denies, and no enforced ALLOW policy applies.
    case noAllowPolicies
    /// By `namespace/name`.
    case allowed(by: String)
  }

  public var description: String {
    switch self {
    case .allow(.noAllowPolicies): "allowed: no policy denies it and no allow policy applies"
    case .allow(.allowed(let key)): "allowed by: \(key)"
    case .deny(let rejection): rejection.summary
    }
  }
}

/// What a dry-run policy would have done (policy.md §6). Nothing here affects the verdict.
public enum DryRunOutcome: Hashable, Sendable, CustomStringConvertible {
  case denyPolicyMatched(String)
  case allowPolicyMatched(String)
  case noAllowPolicyMatched

  /// `namespace/name`, where the outcome is due to one policy.
  public var policy: String? {
    switch self {
    case .denyPolicyMatched(let key), .allowPolicyMatched(let key): key
    case .noAllowPolicyMatched: nil
    }
  }

  public var description: String {
    switch self {
    case .denyPolicyMatched: "dry-run: deny policy match"
    case .allowPolicyMatched: "dry-run: allow policy match"
    case .noAllowPolicyMatched: "dry-run: no allow policies match"
    }
  }
}

/// Why policy refuses a connection. Summaries are the texts access logs carry after
/// `connection closed due to policy rejection: ` (policy.md §6).
public enum PolicyRejection: CodedError, Hashable {
  /// By `namespace/name`.
  case explicitlyDenied(by: String)
  /// The workload names a policy that is not known. It might deny, so it does: not proven means not open.
  case unknownPolicy(String)
  case notAllowed

  public var code: String {
    switch self {
    case .explicitlyDenied: "POLICY_DENIED"
    case .unknownPolicy: "POLICY_UNKNOWN"
    case .notAllowed: "POLICY_NOT_ALLOWED"
    }
  }

  public var summary: String {
    switch self {
    case .explicitlyDenied(let key): "explicitly denied by: \(key)"
    case .unknownPolicy(let key): "policy \(key) is referenced but unknown"
    case .notAllowed: "allow policies exist, but none allowed"
    }
  }

  public var remedy: String? {
    switch self {
    case .explicitlyDenied(let key): "check the rules of AuthorizationPolicy or PeerAuthentication \(key)"
    case .unknownPolicy(let key):
      "check that the control plane sends \(key) and that this proxy did not reject it when it arrived"
    case .notAllowed: "check that a rule of an ALLOW policy covers this source and port"
    }
  }
}
