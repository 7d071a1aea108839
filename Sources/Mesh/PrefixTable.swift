import HashTreeCollections
import Vocabulary

/// Services that answer for address ranges of one network, found by one probe for each prefix length in use rather
/// than by looking at every service.
struct PrefixTable: Sendable, Equatable {
  private struct Length: Hashable {
    var family: IPAddress.Family
    var bits: Int
  }

  private var services: TreeDictionary<IPPrefix, ShortList<Service>> = [:]
  /// How many ranges there are of each length.
  private var lengths: TreeDictionary<Length, Int> = [:]
  /// Lengths in use, longest first.
  private var ordered: [Length] = []

  var isEmpty: Bool { services.isEmpty }

  mutating func insert(_ service: Service, at prefix: IPPrefix) {
    var entry = services[prefix] ?? ShortList()
    if entry.isEmpty {
      let length = Length(family: prefix.address.family, bits: prefix.length)
      lengths[length, default: 0] += 1
      if lengths[length] == 1 { reorder() }
    }
    entry.insertService(service)
    services[prefix] = entry
  }

  mutating func remove(_ key: NamespacedHostname, at prefix: IPPrefix) {
    guard var entry = services[prefix] else { return }
    entry.removeAll { $0.key == key }
    guard entry.isEmpty else {
      services[prefix] = entry
      return
    }
    services[prefix] = nil
    let length = Length(family: prefix.address.family, bits: prefix.length)
    let remaining = (lengths[length] ?? 0) - 1
    lengths[length] = remaining > 0 ? remaining : nil
    if remaining <= 0 { reorder() }
  }

  private mutating func reorder() {
    ordered = lengths.keys.sorted { $0.bits > $1.bits }
  }

  /// All services whose range `ip` is in.
  func services(for ip: IPAddress) -> [Service] {
    ordered.flatMap { length in
      length.family == ip.family ? IPPrefix(ip, length: length.bits).flatMap { services[$0].map(Array.init) } ?? [] : []
    }
  }

  /// The best visible service for `ip`: one of the client's namespace first, then the longest prefix, then a
  /// canonical one (services.md §1.1).
  func best(for ip: IPAddress, clientNamespace: String?) -> Service? {
    var best: Service?
    for length in ordered where length.family == ip.family {
      guard let prefix = IPPrefix(ip, length: length.bits), let entry = services[prefix] else { continue }
      if let own = entry.first(where: { $0.namespace == clientNamespace }) {
        return own
      }
      if best == nil {
        let visible = entry.lazy.filter { $0.isVisible(to: clientNamespace) }
        best = visible.first { $0.isCanonical } ?? visible.first
      }
    }
    return best
  }
}

extension ShortList<Service> {
  /// Keeps the list ordered by key, so that which of several candidates is "the first" never depends on the order in
  /// which they arrived.
  mutating func insertService(_ service: Service) {
    let index = firstIndex { service.key < $0.key } ?? endIndex
    insert(service, at: index)
  }

  /// The best visible candidate for a client of `namespace` (services.md §1.1).
  func best(for namespace: String?) -> Service? {
    var canonical: Service?
    var first: Service?
    for service in self where service.isVisible(to: namespace) {
      if service.namespace == namespace { return service }
      if service.isCanonical { canonical = service }
      first = first ?? service
    }
    return canonical ?? first
  }
}
