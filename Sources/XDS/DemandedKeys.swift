import Mesh

/// What the data path has asked for by name and is still using, where the mesh is learnt on demand (xds.md §3.5). Pure.
///
/// Keys are counted for the pod that alone uses them, so that a pod that tries many addresses pushes out its own keys and
/// not those of others.
struct DemandedKeys: Sendable {
  private struct Entry {
    var lastUse: ContinuousClock.Instant
    var owner: Owner
    /// The control plane's name for what was found, where that is another.
    var resource: String?
  }

  private enum Owner: Hashable {
    case pod(String)
    /// Several pods, or this proxy itself.
    case common
  }

  private struct Account {
    var keys = 0
    /// Of these, those that have no answer yet.
    var pending = 0
  }

  private var entries: [MeshKey: Entry] = [:]
  /// Keys by the resource that answered them, for when it goes.
  private var keysByResource: [String: Set<MeshKey>] = [:]
  private(set) var pending: Set<MeshKey> = []
  private var accounts: [Owner: Account] = [:]
  /// Pods that hold more than their share.
  private var overdrawn: Set<Owner> = []

  /// Keys held at once.
  static let mostKeys = 16_384
  /// Keys that one pod alone may hold.
  static let mostKeysOfPod = mostKeys / 4
  /// Keys of one pod that may wait for their answers at once.
  static let mostPendingOfPod = 512
  /// Time without use after which a key is given back.
  static let idleLimit = Duration.seconds(600)

  var count: Int { entries.count }
  var isFull: Bool { entries.count > Self.mostKeys || !overdrawn.isEmpty }
  var all: some Collection<MeshKey> { entries.keys }

  /// Notes that `pod` uses `keys`, nil being this proxy itself, and returns those that nobody has asked for before. Those
  /// that are too many for the pod at once are left out, and are new again when they are next used.
  mutating func use(_ keys: [MeshKey], by pod: String?, at now: ContinuousClock.Instant) -> [MeshKey] {
    let owner = pod.map { Owner.pod($0) } ?? .common
    var new: [MeshKey] = []
    for key in keys {
      if let entry = entries[key] {
        entries[key]?.lastUse = now
        if entry.owner != owner, entry.owner != .common { give(key, to: .common) }
        continue
      }
      if owner != .common, (accounts[owner]?.pending ?? 0) >= Self.mostPendingOfPod { continue }
      entries[key] = Entry(lastUse: now, owner: owner)
      pending.insert(key)
      account(owner, keys: 1, pending: 1)
      new.append(key)
    }
    return new
  }

  /// Takes an answer, under the resource's name where there is one: true where somebody waits for it.
  mutating func answer(_ key: MeshKey, with resource: String?) -> Bool {
    guard let entry = entries[key] else { return false }
    if let old = entry.resource { unlink(key, from: old) }
    entries[key]?.resource = resource
    if let resource { keysByResource[resource, default: []].insert(key) }
    guard pending.remove(key) != nil else { return false }
    account(entry.owner, keys: 0, pending: -1)
    return true
  }

  /// Forgets what a resource had answered, because it is gone: who has its address next is for the next one to ask.
  mutating func forget(resource: String) -> [MeshKey] {
    let keys = keysByResource.removeValue(forKey: resource) ?? []
    for key in keys { remove(key) }
    return Array(keys)
  }

  /// Gives back what is idle, and what is too much: of a pod that holds more than its share, then of those that hold most,
  /// the keys used longest ago.
  mutating func release(at now: ContinuousClock.Instant) -> [MeshKey] {
    var released = entries.filter { $0.value.lastUse.duration(to: now) >= Self.idleLimit }.map(\.key)
    for key in released { remove(key) }
    guard isFull else { return released }
    // With some to spare, so that the next few do not have to make room again.
    var limits = accounts.mapValues(\.keys)
    for owner in overdrawn { limits[owner] = Self.mostKeysOfPod - Self.mostKeysOfPod / 8 }
    while limits.values.reduce(0, +) > Self.mostKeys, let most = limits.values.max() {
      limits = limits.mapValues { min($0, most - most / 8) }
    }
    var byOwner: [Owner: [(key: MeshKey, lastUse: ContinuousClock.Instant)]] = [:]
    for (key, entry) in entries where (accounts[entry.owner]?.keys ?? 0) > (limits[entry.owner] ?? 0) {
      byOwner[entry.owner, default: []].append((key, entry.lastUse))
    }
    for (owner, keys) in byOwner {
      let surplus = keys.sorted { $0.lastUse < $1.lastUse }.prefix(keys.count - (limits[owner] ?? 0)).map(\.key)
      for key in surplus { remove(key) }
      released += surplus
    }
    return released
  }

  // MARK: Steps

  private mutating func remove(_ key: MeshKey) {
    guard let entry = entries.removeValue(forKey: key) else { return }
    if let resource = entry.resource { unlink(key, from: resource) }
    account(entry.owner, keys: -1, pending: pending.remove(key) == nil ? 0 : -1)
  }

  private mutating func give(_ key: MeshKey, to owner: Owner) {
    guard let old = entries[key]?.owner else { return }
    let waits = pending.contains(key) ? 1 : 0
    entries[key]?.owner = owner
    account(old, keys: -1, pending: -waits)
    account(owner, keys: 1, pending: waits)
  }

  private mutating func account(_ owner: Owner, keys: Int, pending: Int) {
    accounts[owner, default: Account()].keys += keys
    accounts[owner]?.pending += pending
    let held = accounts[owner]?.keys ?? 0
    if held == 0 { accounts[owner] = nil }
    guard owner != .common else { return }
    if held > Self.mostKeysOfPod { overdrawn.insert(owner) } else { overdrawn.remove(owner) }
  }

  private mutating func unlink(_ key: MeshKey, from resource: String) {
    keysByResource[resource]?.remove(key)
    if keysByResource[resource]?.isEmpty == true { keysByResource[resource] = nil }
  }
}
