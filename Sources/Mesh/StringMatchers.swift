import Vocabulary

/// String matches of the namespace field, exact ones in a set.
struct NamespaceMatcher: Sendable {
  private var exact = ExactStrings()
  private var others: [AuthorizationPolicy.StringMatch] = []
  let isEmpty: Bool

  init(_ matches: [AuthorizationPolicy.StringMatch]) {
    isEmpty = matches.isEmpty
    for match in matches {
      if case .exact(let value) = match { exact.insert(value) } else { others.append(match) }
    }
  }

  func accepts(_ value: String) -> Bool {
    exact.contains(value) || others.contains { $0.accepts(value) }
  }
}

/// String matches of the principal field. A principal is `<trust domain>/ns/<namespace>/sa/<service account>`; it is
/// compared part by part rather than written out (policy.md §4).
struct PrincipalMatcher: Sendable {
  private var exact: Set<SPIFFEIdentity> = []
  private var others: [AuthorizationPolicy.StringMatch] = []
  let isEmpty: Bool

  init(_ matches: [AuthorizationPolicy.StringMatch]) {
    isEmpty = matches.isEmpty
    for match in matches {
      guard case .exact(let value) = match else {
        others.append(match)
        continue
      }
      // Text that is no identity equals no principal, so leaving it out says the same.
      if let identity = SPIFFEIdentity(uri: "spiffe://\(value)") { exact.insert(identity) }
    }
  }

  func accepts(_ identity: SPIFFEIdentity) -> Bool {
    if !exact.isEmpty, let index = exact.firstIndex(of: identity), exact[index].hasSameBytes(as: identity) {
      return true
    }
    return others.contains { match in
      switch match {
      case .exact: false
      case .presence: true
      case .prefix(let prefix): identity.principal(startsWith: prefix)
      case .suffix(let suffix): identity.principal(endsWith: suffix)
      }
    }
  }
}

extension AuthorizationPolicy.StringMatch {
  /// Byte by byte: Swift's own string comparison takes canonically equivalent Unicode for equal.
  func accepts(_ value: String) -> Bool {
    switch self {
    case .exact(let text): value.utf8.elementsEqual(text.utf8)
    case .prefix(let text): value.utf8.starts(with: text.utf8)
    case .suffix(let text): value.utf8.reversed().starts(with: text.utf8.reversed())
    case .presence: !value.isEmpty
    }
  }
}

/// A set of strings compared byte by byte. ASCII ones are in a hash set; in the others different bytes can count as
/// the same `String`, so they stay in a list.
private struct ExactStrings: Sendable {
  private var ascii: Set<String> = []
  private var others: [String] = []

  mutating func insert(_ value: String) {
    if value.utf8.allSatisfy({ $0 < 0x80 }) { ascii.insert(value) } else { others.append(value) }
  }

  func contains(_ value: String) -> Bool {
    if !ascii.isEmpty, let index = ascii.firstIndex(of: value), ascii[index].utf8.elementsEqual(value.utf8) {
      return true
    }
    return others.contains { $0.utf8.elementsEqual(value.utf8) }
  }
}

extension SPIFFEIdentity {
  fileprivate func hasSameBytes(as other: SPIFFEIdentity) -> Bool {
    trustDomain.utf8.elementsEqual(other.trustDomain.utf8) && namespace.utf8.elementsEqual(other.namespace.utf8)
      && serviceAccount.utf8.elementsEqual(other.serviceAccount.utf8)
  }

  fileprivate func principal(startsWith prefix: String) -> Bool {
    var rest = prefix.utf8[...]
    return rest.consume(trustDomain.utf8) ?? rest.consume("/ns/".utf8) ?? rest.consume(namespace.utf8)
      ?? rest.consume("/sa/".utf8) ?? rest.consume(serviceAccount.utf8) ?? false
  }

  fileprivate func principal(endsWith suffix: String) -> Bool {
    var rest = suffix.utf8.reversed()[...]
    return rest.consume(serviceAccount.utf8.reversed()) ?? rest.consume("/as/".utf8)
      ?? rest.consume(namespace.utf8.reversed()) ?? rest.consume("/sn/".utf8)
      ?? rest.consume(trustDomain.utf8.reversed()) ?? false
  }
}

extension Collection where Element == UInt8, SubSequence == Self {
  /// Takes what `self` and `piece` have in common off the front. True when nothing of `self` is left, false when they
  /// differ, nil when all of `piece` was taken and more is wanted.
  fileprivate mutating func consume(_ piece: some Sequence<UInt8>) -> Bool? {
    for byte in piece {
      guard let wanted = first else { return true }
      guard wanted == byte else { return false }
      removeFirst()
    }
    return isEmpty ? true : nil
  }
}
