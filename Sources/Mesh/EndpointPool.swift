import Vocabulary

/// Endpoints that can be chosen alike, each as often as its capacity says.
///
/// A persistent tree over hashes of uids: a change copies one leaf and the way to it, a draw goes down by weight, and both
/// cost the logarithm of the number of endpoints. What other snapshots share is never touched.
struct EndpointPool: Sendable {
  private var root = Node(count: 0, weight: 0, content: .leaf([]))

  var count: Int { root.count }
  /// The sum of capacities.
  var weight: UInt64 { root.weight }
  var isEmpty: Bool { root.count == 0 }

  /// Adds an endpoint whose uid is not here yet.
  mutating func insert(_ endpoint: Endpoint) {
    root.insert(endpoint, hash: Self.hash(endpoint.workload.record.uid), depth: 0)
  }

  /// Takes an endpoint out; false when it is not here.
  @discardableResult
  mutating func remove(uid: String) -> Bool {
    root.remove(uid: uid, hash: Self.hash(uid), depth: 0) != nil
  }

  /// The endpoint at `ticket`, 0..<``weight``, when all stand in a row, each as wide as its capacity.
  func endpoint(at ticket: UInt64) -> Endpoint? { root.endpoint(at: ticket) }

  /// The endpoint at a position, 0..<``count``, when all stand in a row.
  func endpoint(atPosition position: Int) -> Endpoint? { root.endpoint(atPosition: position) }

  func forEach(_ body: (Endpoint) -> Void) { root.forEach(body) }

  private static func hash(_ uid: String) -> UInt { UInt(bitPattern: uid.hashValue) }

  private struct Node: Sendable {
    enum Content: Sendable {
      case leaf([Endpoint])
      /// As many as there are values of one digit of the hash.
      case branch([Node])
    }

    var count: Int
    var weight: UInt64
    var content: Content

    private static let digitBits = 4
    private static let fanOut = 1 << digitBits
    private static let mostInLeaf = 32
    /// A branch with this few becomes a leaf again: half of what a leaf takes, so that one endpoint that comes and goes
    /// does not split and join it each time.
    private static let fewestInBranch = 16
    /// Digits of a hash.
    private static let deepest = UInt.bitWidth / digitBits

    private static func digit(_ hash: UInt, _ depth: Int) -> Int {
      Int(truncatingIfNeeded: hash >> UInt(depth * digitBits)) & (fanOut - 1)
    }

    mutating func insert(_ endpoint: Endpoint, hash: UInt, depth: Int) {
      count += 1
      weight += UInt64(endpoint.workload.record.capacity)
      switch content {
      case .leaf(var endpoints):
        // Emptied first, so that the array is changed in place where no other snapshot has it.
        content = .leaf([])
        endpoints.append(endpoint)
        content = .leaf(endpoints)
        if endpoints.count > Self.mostInLeaf, depth < Self.deepest { split(endpoints, depth: depth) }
      case .branch(var children):
        content = .leaf([])
        children[Self.digit(hash, depth)].insert(endpoint, hash: hash, depth: depth + 1)
        content = .branch(children)
      }
    }

    private mutating func split(_ endpoints: [Endpoint], depth: Int) {
      var children = Array(repeating: Node(count: 0, weight: 0, content: .leaf([])), count: Self.fanOut)
      for endpoint in endpoints {
        let hash = EndpointPool.hash(endpoint.workload.record.uid)
        children[Self.digit(hash, depth)].insert(endpoint, hash: hash, depth: depth + 1)
      }
      content = .branch(children)
    }

    mutating func remove(uid: String, hash: UInt, depth: Int) -> Endpoint? {
      let removed: Endpoint?
      switch content {
      case .leaf(var endpoints):
        guard let index = endpoints.firstIndex(where: { $0.workload.record.uid == uid }) else { return nil }
        content = .leaf([])
        removed = endpoints.remove(at: index)
        content = .leaf(endpoints)
      case .branch(var children):
        content = .leaf([])
        removed = children[Self.digit(hash, depth)].remove(uid: uid, hash: hash, depth: depth + 1)
        content = .branch(children)
      }
      guard let removed else { return nil }
      count -= 1
      weight -= UInt64(removed.workload.record.capacity)
      if case .branch = content, count <= Self.fewestInBranch { join() }
      return removed
    }

    private mutating func join() {
      var endpoints: [Endpoint] = []
      endpoints.reserveCapacity(count)
      forEach { endpoints.append($0) }
      content = .leaf(endpoints)
    }

    func endpoint(at ticket: UInt64) -> Endpoint? {
      var ticket = ticket
      switch content {
      case .leaf(let endpoints):
        for endpoint in endpoints {
          let capacity = UInt64(endpoint.workload.record.capacity)
          if ticket < capacity { return endpoint }
          ticket -= capacity
        }
      case .branch(let children):
        for child in children {
          if ticket < child.weight { return child.endpoint(at: ticket) }
          ticket -= child.weight
        }
      }
      return nil
    }

    func endpoint(atPosition position: Int) -> Endpoint? {
      var position = position
      switch content {
      case .leaf(let endpoints): return endpoints.indices.contains(position) ? endpoints[position] : nil
      case .branch(let children):
        for child in children {
          if position < child.count { return child.endpoint(atPosition: position) }
          position -= child.count
        }
        return nil
      }
    }

    func forEach(_ body: (Endpoint) -> Void) {
      switch content {
      case .leaf(let endpoints): endpoints.forEach(body)
      case .branch(let children): for child in children { child.forEach(body) }
      }
    }
  }
}
