import HashTreeCollections
import Vocabulary

/// The endpoints of one service, laid out so that choosing one does not look at all of them.
///
/// Endpoints are grouped by what selection asks of them. Where the service prefers near ones and has many, they are also
/// grouped by place, once for each number of leading preferences: then the best group that a source can have is found by
/// looking up its own place.
struct ServiceEndpoints: Sendable {
  private(set) var all = EndpointTier()
  private(set) var count = 0
  /// Nil where preferences play no part.
  private var balancing: LoadBalancing?
  private var places: TreeDictionary<Place, EndpointTier>?

  /// Services with more endpoints are grouped by place; those with fewer are walked.
  static let mostWalked = 64
  /// Once grouped, they are so until they have fewer than this.
  private static let fewestGrouped = 32

  /// Values of the leading preferences.
  struct Place: Hashable, Sendable {
    /// The network comes first among the preferences and is passed over (services.md §4).
    var isOnAnyNetwork: Bool
    var values: [String]
  }

  /// No endpoints; nil balances where the service is not known.
  init(balancing: LoadBalancing?) {
    self.balancing = balancing.flatMap { $0.usesPreferences ? $0 : nil }
  }

  var isEmpty: Bool { count == 0 }

  // MARK: Changes

  mutating func insert(_ endpoint: Endpoint) {
    let traits = EndpointTraits(endpoint)
    all.insert(endpoint, traits)
    count += 1
    if let balancing, places != nil {
      for place in balancing.places(of: endpoint.workload) {
        places?[place, default: EndpointTier()].insert(endpoint, traits)
      }
    } else if count > Self.mostWalked {
      group()
    }
  }

  mutating func remove(_ endpoint: Endpoint) {
    let traits = EndpointTraits(endpoint)
    let uid = endpoint.workload.record.uid
    guard all.remove(uid: uid, traits) else { return }
    count -= 1
    guard let balancing, places != nil else { return }
    guard count >= Self.fewestGrouped else {
      places = nil
      return
    }
    for place in balancing.places(of: endpoint.workload) {
      _ = places?[place]?.remove(uid: uid, traits)
      if places?[place]?.isEmpty == true { places?[place] = nil }
    }
  }

  /// Takes over how the service balances; nil where the service is not known.
  mutating func balance(as new: LoadBalancing?) {
    let new = new.flatMap { $0.usesPreferences ? $0 : nil }
    guard new?.preferences != balancing?.preferences || new?.mode != balancing?.mode else {
      balancing = new
      return
    }
    balancing = new
    places = nil
    if count > Self.mostWalked { group() }
  }

  private mutating func group() {
    guard let balancing else { return }
    var grouped: TreeDictionary<Place, EndpointTier> = [:]
    all.forEachPool { traits, pool in
      pool.forEach { endpoint in
        for place in balancing.places(of: endpoint.workload) {
          grouped[place, default: EndpointTier()].insert(endpoint, traits)
        }
      }
    }
    places = grouped
  }

  // MARK: Reading

  /// What `source` can choose from, best first: the first tier that has anything usable has nothing but the best. Nil
  /// where endpoints are not grouped and have to be ranked one by one.
  func tiers(for source: Workload) -> [EndpointTier]? {
    guard let balancing else { return [all] }
    guard let places else { return nil }
    let near = balancing.places(of: source).compactMap { places[$0] }
    return balancing.mode == .strict ? near : near + [all]
  }

  func forEach(_ body: (Endpoint) -> Void) { all.forEach(body) }

  /// Different endpoints, drawn at random; `number` of them, which must be far below ``count``.
  func sample(_ number: Int, using random: inout some RandomNumberGenerator) -> [Endpoint] {
    var known: Set<Int> = []
    // In the order of drawing: a set's own order would have the same endpoints come last each time.
    var positions: [Int] = []
    while positions.count < min(number, count / 2) {
      let position = Int.random(in: 0..<count, using: &random)
      if known.insert(position).inserted { positions.append(position) }
    }
    return positions.compactMap { all.endpoint(at: $0) }
  }
}

extension LoadBalancing {
  /// False where every candidate is as good as any other.
  var usesPreferences: Bool { mode != .standard && !preferences.isEmpty }

  /// The groups that `workload` belongs to as a candidate; they are those that it looks into as a source, best first.
  ///
  /// Candidates that share more leading preferences come first. Where the network leads, all of the same network come
  /// before all others, which are compared by the remaining preferences (services.md §4).
  func places(of workload: Workload) -> [ServiceEndpoints.Place] {
    let values = preferences.map { $0.value(of: workload) }
    if mode == .strict { return [ServiceEndpoints.Place(isOnAnyNetwork: false, values: values)] }
    var places: [ServiceEndpoints.Place] = []
    for length in stride(from: values.count, to: 0, by: -1) {
      places.append(ServiceEndpoints.Place(isOnAnyNetwork: false, values: Array(values[..<length])))
    }
    guard preferences.first == .network else { return places }
    for length in stride(from: values.count, to: 1, by: -1) {
      places.append(ServiceEndpoints.Place(isOnAnyNetwork: true, values: Array(values[1..<length])))
    }
    return places
  }
}
