import Vocabulary

/// The policies of a mesh file.
extension MeshDocumentDecoder {
  func policy(_ value: DocumentValue) -> AuthorizationPolicy? {
    guard var fields = value.fields() else { return nil }
    defer { fields.finish() }
    let scopes: [(String, AuthorizationPolicy.Scope)] = [
      ("Global", .global), ("Namespace", .namespace), ("WorkloadSelector", .workloadSelector),
    ]
    let name = fields.required("name")?.name()
    let namespace = fields.required("namespace")?.name()
    let scope = fields.required("scope")?.choice(scopes)
    let action = fields.required("action")?.choice([("Allow", AuthorizationPolicy.Action.allow), ("Deny", .deny)])
    let isDryRun = fields.required("dryRun")?.boolean()
    let rules = fields.required("rules")?.list(rule)
    guard let name, let namespace, let scope, let action, let isDryRun, let rules else { return nil }
    return AuthorizationPolicy(
      name: name, namespace: namespace, scope: scope, action: action, isDryRun: isDryRun, rules: rules)
  }

  private func rule(_ value: DocumentValue) -> AuthorizationPolicy.Rule? {
    value.list(clause).map(AuthorizationPolicy.Rule.init)
  }

  private func clause(_ value: DocumentValue) -> AuthorizationPolicy.Clause? {
    value.list(match).map(AuthorizationPolicy.Clause.init)
  }

  private func match(_ value: DocumentValue) -> AuthorizationPolicy.Match? {
    guard var fields = value.fields() else { return nil }
    defer { fields.finish() }
    var match = AuthorizationPolicy.Match()
    match.namespaces = condition(&fields, "namespaces", "notNamespaces", stringMatch)
    match.principals = condition(&fields, "principals", "notPrincipals", principalMatch)
    match.serviceAccounts = condition(&fields, "serviceAccounts", "notServiceAccounts", serviceAccount)
    match.sourceIPs = condition(&fields, "sourceIps", "notSourceIps", prefix)
    match.destinationIPs = condition(&fields, "destinationIps", "notDestinationIps", prefix)
    match.destinationPorts = condition(&fields, "destinationPorts", "notDestinationPorts") {
      $0.integer(in: 1...UInt16.max)
    }
    return match
  }

  private func condition<Value>(
    _ fields: inout DocumentFields, _ key: String, _ excludedKey: String, _ read: (DocumentValue) -> Value?
  ) -> AuthorizationPolicy.Condition<Value> {
    AuthorizationPolicy.Condition(
      fields.optional(key)?.list(read) ?? [], excluding: fields.optional(excludedKey)?.list(read) ?? [])
  }

  private func serviceAccount(_ value: DocumentValue) -> AuthorizationPolicy.ServiceAccount? {
    guard var fields = value.fields() else { return nil }
    defer { fields.finish() }
    guard let namespace = fields.required("namespace")?.name(),
      let name = fields.required("serviceAccount")?.name()
    else { return nil }
    return AuthorizationPolicy.ServiceAccount(namespace: namespace, name: name)
  }

  /// Principals are compared without their scheme, so one written with it would silently never match.
  private func principalMatch(_ value: DocumentValue) -> AuthorizationPolicy.StringMatch? {
    guard let match = stringMatch(value) else { return nil }
    switch match {
    case .exact(let text) where text.hasPrefix("spiffe:"), .prefix(let text) where text.hasPrefix("spiffe:"):
      value.report("principals are written without spiffe://")
      return nil
    default: return match
    }
  }

  /// `!Exact text`, `{Exact: text}`, or the text forms of policies (policy.md §4).
  private func stringMatch(_ value: DocumentValue) -> AuthorizationPolicy.StringMatch? {
    if let tag = value.tag { return stringMatch(String(tag.drop { $0 == "!" }), value.untagged, reportingAt: value) }
    guard value.node.mapping != nil else {
      guard let text = value.string() else { return nil }
      guard !text.isEmpty else {
        value.report("an empty text would match peers without an identity; write !Exact \"\" if that is meant")
        return nil
      }
      return AuthorizationPolicy.StringMatch(text: text)
    }
    guard let entry = value.soleEntry else {
      value.report("expected one of Exact, Prefix, Suffix, Presence as the only key")
      return nil
    }
    return stringMatch(entry.key, entry.value, reportingAt: value)
  }

  private func stringMatch(
    _ kind: String, _ content: DocumentValue, reportingAt value: DocumentValue
  ) -> AuthorizationPolicy.StringMatch? {
    switch kind {
    case "Exact", "exact": return content.string().map { .exact($0) }
    case "Prefix", "prefix": return content.string().map { .prefix($0) }
    case "Suffix", "suffix": return content.string().map { .suffix($0) }
    case "Presence", "presence":
      guard content.isEmpty else {
        content.report("Presence takes no value")
        return nil
      }
      return .presence
    default:
      value.report("expected one of Exact, Prefix, Suffix, Presence, found \"\(kind.prefix(64))\"")
      return nil
    }
  }
}
