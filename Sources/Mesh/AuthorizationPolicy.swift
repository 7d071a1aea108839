import Vocabulary

/// An L4 authorization policy as written: rules are alternatives, the clauses of a rule must all hold, the matches
/// of a clause are alternatives, the fields of a match must all hold (policy.md).
public struct AuthorizationPolicy: Hashable, Sendable {
  public enum Scope: String, Hashable, Sendable, CaseIterable {
    /// Every workload.
    case global
    /// Workloads of the policy's namespace.
    case namespace
    /// Workloads that name the policy.
    case workloadSelector
  }

  public enum Action: String, Hashable, Sendable, CaseIterable {
    case allow, deny
  }

  public struct Rule: Hashable, Sendable {
    public var clauses: [Clause]
    public init(_ clauses: [Clause]) { self.clauses = clauses }
  }

  public struct Clause: Hashable, Sendable {
    public var matches: [Match]
    public init(_ matches: [Match]) { self.matches = matches }
  }

  public var name: String
  public var namespace: String
  public var scope: Scope
  public var action: Action
  /// The outcome is reported, never enforced.
  public var isDryRun: Bool
  public var rules: [Rule]

  public init(
    name: String, namespace: String, scope: Scope, action: Action, isDryRun: Bool = false, rules: [Rule]
  ) {
    self.name = name
    self.namespace = namespace
    self.scope = scope
    self.action = action
    self.isDryRun = isDryRun
    self.rules = rules
  }

  /// `namespace/name`, the name workloads list it by.
  public var key: String { "\(namespace)/\(name)" }
}

extension AuthorizationPolicy {
  /// Conditions on one connection. A match without any field holds for nothing: that is how conditions that cannot
  /// be checked at L4 arrive (policy.md §3).
  public struct Match: Hashable, Sendable {
    public var namespaces = Condition<StringMatch>()
    public var principals = Condition<StringMatch>()
    public var serviceAccounts = Condition<ServiceAccount>()
    public var sourceIPs = Condition<IPPrefix>()
    public var destinationIPs = Condition<IPPrefix>()
    public var destinationPorts = Condition<UInt16>()

    public init() {}

    var isEmpty: Bool {
      namespaces.isEmpty && principals.isEmpty && serviceAccounts.isEmpty && sourceIPs.isEmpty
        && destinationIPs.isEmpty && destinationPorts.isEmpty
    }
  }

  /// One field: any of `values` must match unless there are none, and none of `excluded` may.
  public struct Condition<Value: Hashable & Sendable>: Hashable, Sendable {
    public var values: [Value]
    public var excluded: [Value]

    public init(_ values: [Value] = [], excluding excluded: [Value] = []) {
      self.values = values
      self.excluded = excluded
    }

    public var isEmpty: Bool { values.isEmpty && excluded.isEmpty }
  }

  public struct ServiceAccount: Hashable, Sendable {
    public var namespace: String
    public var name: String

    public init(namespace: String, name: String) {
      self.namespace = namespace
      self.name = name
    }
  }

  /// A byte-wise, case-sensitive test of a string (policy.md §4).
  public enum StringMatch: Hashable, Sendable {
    case exact(String)
    case prefix(String)
    case suffix(String)
    /// Any value but the empty one.
    case presence

    /// The text form of policies: `*`, `*suffix`, `prefix*`, or the exact value. A leading `*` is looked at first.
    public init(text: String) {
      if text == "*" {
        self = .presence
      } else if text.hasPrefix("*") {
        self = .suffix(String(text.dropFirst()))
      } else if text.hasSuffix("*") {
        self = .prefix(String(text.dropLast()))
      } else {
        self = .exact(text)
      }
    }
  }
}
