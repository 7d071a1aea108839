import Vocabulary
import YAML

/// An `AuthorizationPolicy` as people write it for Kubernetes, and what the control plane makes of it (policy.md §9.1).
struct AuthorizationPolicyResource {
  /// Nil where the control plane sends nothing to this proxy.
  var policy: AuthorizationPolicy?
  /// The labels of the workloads it selects; empty for all that its namespace says.
  var labels: [String: String] = [:]
  /// What a reader should know about the translation.
  var notes: [String] = []

  /// The namespace whose policies concern the whole mesh.
  static let rootNamespace = "istio-system"
  private static let conditionKeys = [
    "source.ip", "source.namespace", "source.principal", "destination.ip", "destination.port",
  ]

  /// True for a document that names Istio's API.
  static func isResource(_ value: DocumentValue) -> Bool {
    value.node["kind"] != nil || value.node["apiVersion"] != nil
  }

  /// Nil after reporting what is wrong.
  init?(_ value: DocumentValue) {
    guard var fields = value.fields() else { return nil }
    _ = fields.optional("apiVersion")
    let kind = fields.required("kind")?.string() ?? ""
    guard kind == "AuthorizationPolicy" else {
      value.report("kind \(kind.prefix(64)) is not read, only AuthorizationPolicy")
      return nil
    }
    let metadata = fields.required("metadata")
    guard let name = metadata?.node["name"].flatMap({ metadata?.with($0, "name").name() }) else {
      value.report("metadata.name is required")
      return nil
    }
    let namespace = metadata?.node["namespace"].flatMap { metadata?.with($0, "namespace").name() } ?? "default"
    let dryRun = metadata?.node["annotations"]?["istio.io/dry-run"]?.scalar
    _ = fields.optional("status")
    guard let spec = fields.optional("spec") else {
      policy = AuthorizationPolicy(
        name: name, namespace: namespace, scope: Self.scope(namespace, hasSelector: false), action: .allow,
        isDryRun: dryRun == "true", rules: [])
      fields.finish()
      return
    }
    fields.finish()
    guard var parts = spec.fields() else { return nil }
    let action = parts.optional("action")?.string() ?? "ALLOW"
    let targets = [parts.optional("targetRef"), parts.optional("targetRefs")].contains { $0 != nil }
    let provider = parts.optional("provider") != nil
    labels =
      parts.optional("selector").flatMap { $0.node["matchLabels"].map { labels in spec.with(labels, "selector") } }?
      .map(key: { $0.string() }, value: { $0.string() }) ?? [:]
    let rules = parts.optional("rules")
    parts.finish()
    guard !targets, !provider, action == "ALLOW" || action == "DENY" else {
      let reason = targets ? "targetRefs are a waypoint's" : "action \(action) is a waypoint's"
      notes.append("\(namespace)/\(name) is not for ztunnel: \(reason)")
      return
    }
    var dropped = false
    let translated = rules?.list { rule in Self.rule(rule, namespace, isAllow: action == "ALLOW", &dropped) } ?? []
    if dropped {
      notes.append(
        action == "ALLOW"
          ? "\(namespace)/\(name): rules with HTTP conditions are left out, as at L4 they cannot be checked"
          : "\(namespace)/\(name): HTTP conditions are left out: the rules are stricter, those of nothing else idle")
    }
    policy = AuthorizationPolicy(
      name: name, namespace: namespace, scope: Self.scope(namespace, hasSelector: !labels.isEmpty),
      action: action == "ALLOW" ? .allow : .deny, isDryRun: dryRun == "true", rules: translated.compactMap { $0 })
  }

  private static func scope(_ namespace: String, hasSelector: Bool) -> AuthorizationPolicy.Scope {
    if hasSelector { return .workloadSelector }
    return namespace == rootNamespace ? .global : .namespace
  }

  // MARK: Rules

  /// `.some(nil)` for a rule that is left out.
  private static func rule(
    _ value: DocumentValue, _ namespace: String, isAllow: Bool, _ dropped: inout Bool
  ) -> AuthorizationPolicy.Rule?? {
    guard var fields = value.fields() else { return nil }
    defer { fields.finish() }
    var hasHTTP = false
    var clauses: [AuthorizationPolicy.Clause] = []
    if let to = fields.optional("to")?.list({ operation($0, &hasHTTP) }), !to.isEmpty { clauses.append(.init(to)) }
    if let from = fields.optional("from")?.list({ source($0, namespace, &hasHTTP) }), !from.isEmpty {
      clauses.append(.init(from))
    }
    for condition in fields.optional("when")?.list({ condition($0, &hasHTTP) }) ?? [] {
      clauses.append(.init([condition]))
    }
    guard hasHTTP else { return .some(AuthorizationPolicy.Rule(clauses)) }
    dropped = true
    return isAllow ? .some(nil) : .some(AuthorizationPolicy.Rule(clauses))
  }

  private static func operation(_ value: DocumentValue, _ hasHTTP: inout Bool) -> AuthorizationPolicy.Match? {
    guard var outer = value.fields() else { return nil }
    defer { outer.finish() }
    var match = AuthorizationPolicy.Match()
    guard var fields = outer.optional("operation")?.fields() else { return match }
    match.destinationPorts = .init(
      fields.optional("ports")?.list(port) ?? [], excluding: fields.optional("notPorts")?.list(port) ?? [])
    http(["hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"], &fields, &hasHTTP)
    fields.finish()
    return match
  }

  private static func source(
    _ value: DocumentValue, _ namespace: String, _ hasHTTP: inout Bool
  ) -> AuthorizationPolicy.Match? {
    guard var outer = value.fields() else { return nil }
    defer { outer.finish() }
    var match = AuthorizationPolicy.Match()
    guard var fields = outer.optional("source")?.fields() else { return match }
    let account = { (value: DocumentValue) in serviceAccount(value, namespace) }
    match.principals = condition(&fields, "principals", "notPrincipals", principal)
    match.namespaces = condition(&fields, "namespaces", "notNamespaces", text)
    match.serviceAccounts = condition(&fields, "serviceAccounts", "notServiceAccounts", account)
    match.sourceIPs = condition(&fields, "ipBlocks", "notIpBlocks", block)
    http(["requestPrincipals", "notRequestPrincipals", "remoteIpBlocks", "notRemoteIpBlocks"], &fields, &hasHTTP)
    fields.finish()
    return match
  }

  private static func condition(_ value: DocumentValue, _ hasHTTP: inout Bool) -> AuthorizationPolicy.Match? {
    guard var fields = value.fields() else { return nil }
    defer { fields.finish() }
    var match = AuthorizationPolicy.Match()
    let key = fields.required("key")?.string() ?? ""
    switch key {
    case "source.ip": match.sourceIPs = condition(&fields, "values", "notValues", block)
    case "destination.ip": match.destinationIPs = condition(&fields, "values", "notValues", block)
    case "destination.port": match.destinationPorts = condition(&fields, "values", "notValues", port)
    case "source.namespace": match.namespaces = condition(&fields, "values", "notValues", text)
    case "source.principal": match.principals = condition(&fields, "values", "notValues", principal)
    default:
      guard
        key.hasPrefix("request.") || key.hasPrefix("remote.") || key.hasPrefix("connection.")
          || key.hasPrefix("experimental.")
      else {
        value.report("\(key.prefix(64)) is not one of \(conditionKeys.joined(separator: ", ")), and no HTTP condition")
        return nil
      }
      hasHTTP = true
      _ = (fields.optional("values"), fields.optional("notValues"))
    }
    return match
  }

  // MARK: Values

  private static func condition<Value>(
    _ fields: inout DocumentFields, _ key: String, _ excludedKey: String, _ read: (DocumentValue) -> Value?
  ) -> AuthorizationPolicy.Condition<Value> {
    .init(fields.optional(key)?.list(read) ?? [], excluding: fields.optional(excludedKey)?.list(read) ?? [])
  }

  private static func http(_ keys: [String], _ fields: inout DocumentFields, _ hasHTTP: inout Bool) {
    for key in keys where fields.optional(key) != nil { hasHTTP = true }
  }

  private static func port(_ value: DocumentValue) -> UInt16? {
    value.parsed(as: "a port from 1 to 65535") { DocumentValue.integer($0, in: 1...UInt16.max) }
  }

  private static func text(_ value: DocumentValue) -> AuthorizationPolicy.StringMatch? {
    guard let text = value.string() else { return nil }
    guard !text.isEmpty else {
      value.report("must not be empty")
      return nil
    }
    return AuthorizationPolicy.StringMatch(text: text)
  }

  private static func principal(_ value: DocumentValue) -> AuthorizationPolicy.StringMatch? {
    if value.node.scalar?.hasPrefix("spiffe:") == true {
      value.report("principals are written without spiffe://")
      return nil
    }
    return text(value)
  }

  private static func serviceAccount(
    _ value: DocumentValue, _ namespace: String
  ) -> AuthorizationPolicy.ServiceAccount? {
    value.parsed(as: "service-account or namespace/service-account") { text in
      let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
      guard (1...2).contains(parts.count), parts.allSatisfy({ !$0.isEmpty }), let name = parts.last else { return nil }
      return .init(namespace: parts.count == 2 ? parts[0] : namespace, name: name)
    }
  }

  private static func block(_ value: DocumentValue) -> IPPrefix? {
    value.parsed(as: "an address, or address/length") { text in
      IPPrefix(text) ?? IPAddress(text).map { IPPrefix(host: $0) }
    }
  }
}

extension DocumentValue {
  /// A value inside of this one.
  fileprivate func with(_ node: YAMLNode, _ key: String) -> DocumentValue {
    DocumentValue(node, path.key(key), problems)
  }
}
