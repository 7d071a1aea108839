import Mesh

/// What the data path has asked for by name and is still using, where the mesh is learnt on demand (xds.md §3.5). Pure.
struct DemandedKeys: Sendable {
  private struct Entry {
    var lastUse: ContinuousClock.Instant
    var isAnswered = false
    /// The control plane's name for what was found, where that is another.
    var resource: String?
  }

  private var entries: [MeshKey: Entry] = [:]
  /// Keys by the resource that answered them, for when it goes.
  private var keysByResource: [String: Set<MeshKey>] = [:]
  private(set) var pending: Set<MeshKey> = []

  /// Keys held at once. A pod that tries many addresses pushes out what was used longest ago.
  static let mostKeys = 16_384
  /// Time without use after which a key is given back.
  static let idleLimit = Duration.seconds(600)

  var count: Int { entries.count }
  var isFull: Bool { entries.count > Self.mostKeys }
  var all: some Collection<MeshKey> { entries.keys }

  /// Notes that `keys` are in use, and returns those that nobody has asked for before.
  mutating func use(_ keys: [MeshKey], at now: ContinuousClock.Instant) -> [MeshKey] {
    var new: [MeshKey] = []
    for key in keys {
      if entries[key] == nil {
        new.append(key)
        pending.insert(key)
      }
      entries[key, default: Entry(lastUse: now)].lastUse = now
    }
    return new
  }

  /// Takes an answer, under the resource's name where there is one: true where somebody waits for it.
  mutating func answer(_ key: MeshKey, with resource: String?) -> Bool {
    guard entries[key] != nil else { return false }
    if let old = entries[key]?.resource { unlink(key, from: old) }
    entries[key]?.resource = resource
    if let resource { keysByResource[resource, default: []].insert(key) }
    entries[key]?.isAnswered = true
    return pending.remove(key) != nil
  }

  /// Forgets what a resource had answered, because it is gone: who has its address next is for the next one to ask.
  mutating func forget(resource: String) -> [MeshKey] {
    let keys = keysByResource.removeValue(forKey: resource) ?? []
    for key in keys {
      entries[key] = nil
      pending.remove(key)
    }
    return Array(keys)
  }

  /// Gives back what is idle, and what is too much.
  mutating func release(at now: ContinuousClock.Instant) -> [MeshKey] {
    var released = entries.filter { $0.value.lastUse.duration(to: now) >= Self.idleLimit }.map(\.key)
    let surplus = entries.count - released.count - Self.mostKeys
    if surplus > 0 {
      // With some to spare, so that the next few do not have to make room again.
      let oldest = entries.sorted { $0.value.lastUse < $1.value.lastUse }.map(\.key)
      released = Array(oldest.prefix(released.count + surplus + Self.mostKeys / 8))
    }
    for key in released {
      if let resource = entries.removeValue(forKey: key)?.resource { unlink(key, from: resource) }
      pending.remove(key)
    }
    return released
  }

  private mutating func unlink(_ key: MeshKey, from resource: String) {
    keysByResource[resource]?.remove(key)
    if keysByResource[resource]?.isEmpty == true { keysByResource[resource] = nil }
  }
}
