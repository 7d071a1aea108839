/// The names a client may mean by the one it asks for (dns.md §3.1), so that no search list is walked over the wire.
struct NameExpansion {
  struct Alias: Equatable {
    /// The host name to look for.
    let hostname: String
    /// The name without its search domain, where one was taken off.
    let stripped: String?
  }

  private let clusterDomain: String
  private let namespace: String

  init(namespace: String, clusterDomain: String) {
    self.namespace = namespace
    self.clusterDomain = clusterDomain
  }

  /// In the order in which they are to be tried, without repetition. `hostname` is in lower case.
  func aliases(of hostname: String) -> [Alias] {
    var aliases: [Alias] = []
    var seen: Set<String> = []
    func add(_ name: String, stripped: String?) {
      if seen.insert(name).inserted { aliases.append(Alias(hostname: name, stripped: stripped)) }
    }
    add(hostname, stripped: nil)
    for name in expand(hostname) { add(name, stripped: nil) }
    for domain in ["\(namespace).svc.\(clusterDomain)", "svc.\(clusterDomain)", clusterDomain] {
      guard hostname.hasSuffix("." + domain) else { continue }
      let stripped = String(hostname.dropLast(domain.count + 1))
      guard !stripped.isEmpty else { continue }
      add(stripped, stripped: stripped)
      for name in expand(stripped) { add(name, stripped: stripped) }
    }
    return aliases
  }

  /// The full names that a short name of a Kubernetes service can stand for.
  private func expand(_ name: String) -> [String] {
    let isServiceName = name.hasSuffix(".svc")
    switch name.utf8.count(where: { $0 == UInt8(ascii: ".") }) + 1 {
    case 1: return ["\(name).\(namespace).svc.\(clusterDomain)"]
    case 2: return ["\(name).svc.\(clusterDomain)", "\(name).\(namespace).svc.\(clusterDomain)"]
    case 3: return (isServiceName ? ["\(name).\(clusterDomain)"] : []) + ["\(name).svc.\(clusterDomain)"]
    case 4: return isServiceName ? ["\(name).\(clusterDomain)"] : []
    default: return []
    }
  }

  /// The wildcard hosts that cover a host name, the most specific first; never all of them (dns.md §3.2).
  static func wildcards(of hostname: String) -> some Sequence<String> {
    sequence(state: hostname[...]) { rest in
      guard let dot = rest.firstIndex(of: ".") else { return nil }
      rest = rest[rest.index(after: dot)...]
      return rest.isEmpty ? nil : "*." + rest
    }
  }
}
