import IstioAPI
import Mesh
import SwiftProtobuf
import Vocabulary

extension AuthorizationPolicy {
  /// The policy that a resource describes (xds.md §5.2). Throws ``ResourceRejection`` for anything in it that is not
  /// understood: a condition that is left out makes another policy of it.
  init(_ message: Istio_Security_Authorization) throws(ResourceRejection) {
    guard !message.name.isEmpty else { throw .field("name", "it is empty") }
    let scope = try FieldReaders.known(message.scope, "scope") { Self.scope($0) }
    let action = try FieldReaders.known(message.action, "action") { Self.action($0) }
    var rules: [Rule] = []
    for rule in message.rules {
      try Self.requireUnderstood(rule.unknownFields, "rules")
      var clauses: [Clause] = []
      for clause in rule.clauses {
        try Self.requireUnderstood(clause.unknownFields, "clauses")
        var matches: [Match] = []
        for match in clause.matches { matches.append(try Match(match)) }
        clauses.append(Clause(matches))
      }
      rules.append(Rule(clauses))
    }
    self.init(
      name: message.name, namespace: message.namespace, scope: scope, action: action, isDryRun: message.dryRun,
      rules: rules)
  }

  static func scope(_ scope: Istio_Security_Scope) -> Scope? {
    switch scope {
    case .global: .global
    case .namespace: .namespace
    case .workloadSelector: .workloadSelector
    case .UNRECOGNIZED: nil
    }
  }

  static func action(_ action: Istio_Security_Action) -> Action? {
    switch action {
    case .allow: .allow
    case .deny: .deny
    case .UNRECOGNIZED: nil
    }
  }

  fileprivate static func requireUnderstood(_ fields: UnknownStorage, _ place: String) throws(ResourceRejection) {
    guard fields.data.isEmpty else { throw .field(place, "it holds a field that is not known here") }
  }
}

extension AuthorizationPolicy.Match {
  fileprivate init(_ message: Istio_Security_Match) throws(ResourceRejection) {
    self.init()
    try AuthorizationPolicy.requireUnderstood(message.unknownFields, "matches")
    guard message.extensions.isEmpty else { throw .field("matches", "it holds an extension") }
    namespaces = .init(
      try Self.strings(message.namespaces, "namespaces"),
      excluding: try Self.strings(message.notNamespaces, "not_namespaces"))
    principals = .init(
      try Self.strings(message.principals, "principals"),
      excluding: try Self.strings(message.notPrincipals, "not_principals"))
    serviceAccounts = .init(
      Self.accounts(message.serviceAccounts), excluding: Self.accounts(message.notServiceAccounts))
    sourceIPs = .init(
      try Self.prefixes(message.sourceIps, "source_ips"),
      excluding: try Self.prefixes(message.notSourceIps, "not_source_ips"))
    destinationIPs = .init(
      try Self.prefixes(message.destinationIps, "destination_ips"),
      excluding: try Self.prefixes(message.notDestinationIps, "not_destination_ips"))
    destinationPorts = .init(
      try Self.ports(message.destinationPorts, "destination_ports"),
      excluding: try Self.ports(message.notDestinationPorts, "not_destination_ports"))
  }

  private static func strings(_ messages: [Istio_Security_StringMatch], _ field: String) throws(ResourceRejection)
    -> [AuthorizationPolicy.StringMatch]
  {
    var matches: [AuthorizationPolicy.StringMatch] = []
    for message in messages {
      switch message.matchType {
      case .exact(let text): matches.append(.exact(text))
      case .prefix(let text): matches.append(.prefix(text))
      case .suffix(let text): matches.append(.suffix(text))
      case .presence: matches.append(.presence)
      case nil: throw .field(field, "a match says neither exact, prefix, suffix nor presence")
      }
    }
    return matches
  }

  private static func prefixes(_ messages: [Istio_Security_Address], _ field: String) throws(ResourceRejection)
    -> [IPPrefix]
  {
    var prefixes: [IPPrefix] = []
    for message in messages {
      let ip = try FieldReaders.address(Array(message.address), field)
      guard let prefix = Int(exactly: message.length).flatMap({ IPPrefix(ip, length: $0) }) else {
        throw .field(field, "/\(message.length) is too long for \(ip)")
      }
      prefixes.append(prefix)
    }
    return prefixes
  }

  private static func ports(_ numbers: [UInt32], _ field: String) throws(ResourceRejection) -> [UInt16] {
    var ports: [UInt16] = []
    for number in numbers { ports.append(try FieldReaders.port(number, field)) }
    return ports
  }

  private static func accounts(_ messages: [Istio_Security_ServiceAccountMatch])
    -> [AuthorizationPolicy.ServiceAccount]
  {
    messages.map { .init(namespace: $0.namespace, name: $0.serviceAccount) }
  }
}
