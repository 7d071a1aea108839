import Foundation
import Linux
import Synchronization
import Vocabulary

/// Nodes and pods made of network namespaces, for the length of one test.
///
/// ```swift
/// try TestNetwork.with { network in
///   let (left, right) = (try network.node("left"), try network.node("right"))
///   let (client, server) = (try left.pod("client"), try right.pod("server"))
///   …
/// }
/// ```
///
/// Node *n* has the pods `10.<n>.0.0/24` and `fd00:<n>::/64` behind a bridge; nodes see each other on a shared wire,
/// `172.30.0.<n>` and `fd01::<n>`, and route to each other's pods.
public final class TestNetwork: Sendable {
  private struct State {
    var namespaces: [TestNamespace] = []
    var nodes: [Node] = []
    var wire: TestNamespace?
    var processes: [RunningProcess] = []
    var isTornDown = false
  }

  /// Begins every namespace of this network.
  let prefix: String
  private let state = Mutex(State())

  private init() {
    LeftoverNamespaces.sweepOnce()
    prefix = LeftoverNamespaces.newPrefix()
    LiveNetworks.add(self)
  }

  /// Gives a network to `body` and takes it down afterwards, whatever happens.
  public static func with<Result>(_ body: (TestNetwork) throws -> Result) throws -> Result {
    let network = TestNetwork()
    defer { network.tearDown() }
    return try body(network)
  }

  /// Gives a network to `body` and takes it down afterwards, whatever happens.
  public static func with<Result>(_ body: (TestNetwork) async throws -> Result) async throws -> Result {
    let network = TestNetwork()
    defer { network.tearDown() }
    return try await body(network)
  }

  /// A namespace of its own, with nothing but loopback. Labels are unique within a network.
  public func namespace(_ label: String) throws -> TestNamespace {
    let made = try TestNamespace(label: label, name: "\(prefix)\(label)", network: self)
    state.withLock { $0.namespaces.append(made) }
    return made
  }

  /// A node: at most 200 a network.
  public func node(_ label: String) throws -> Node {
    let place = try namespace(label)
    let (others, index) = state.withLock { ($0.nodes, $0.nodes.count + 1) }
    let node = try Node(place, index: index)
    try attach(node)
    for other in others {
      try other.route(to: node)
      try node.route(to: other)
    }
    state.withLock { $0.nodes.append(node) }
    return node
  }

  /// Connects two namespaces by a pair of interfaces with the given names and addresses (`10.0.0.1/24`).
  public func link(
    _ left: some NamespaceHolder, _ leftInterface: String, _ leftAddresses: [String],
    to right: some NamespaceHolder, _ rightInterface: String, _ rightAddresses: [String] = []
  ) throws {
    try left.place.ip([
      "link add \(leftInterface) type veth peer name \(rightInterface) netns \(right.place.name)",
      "link set \(leftInterface) up",
    ])
    try right.place.ip(["link set \(rightInterface) up"])
    try left.place.ip(leftAddresses.map { "addr add \($0) dev \(leftInterface)\($0.contains(":") ? " nodad" : "")" })
    try right.place.ip(rightAddresses.map { "addr add \($0) dev \(rightInterface)\($0.contains(":") ? " nodad" : "")" })
  }

  func owns(_ process: RunningProcess) { state.withLock { $0.processes.append(process) } }

  /// Ends every process and removes every namespace. Further calls do nothing.
  func tearDown() {
    let state = state.withLock { state in
      let snapshot = state
      state = State()
      state.isTornDown = true
      return snapshot
    }
    guard !state.isTornDown else { return }
    for process in state.processes { process.kill() }
    for process in state.processes { _ = process.waitForExit(within: .seconds(5)) }
    LeftoverNamespaces.remove(state.namespaces.map(\.name))
    LiveNetworks.remove(self)
  }

  /// Plugs a node into the wire, a bridge in a namespace of its own that also is where to capture between nodes.
  private func attach(_ node: Node) throws {
    let wire: TestNamespace
    if let known = state.withLock({ $0.wire }) {
      wire = known
    } else {
      wire = try namespace("wire")
      try wire.ip(["link add wire type bridge", "link set wire up"])
      state.withLock { $0.wire = wire }
    }
    try link(
      node, "eth0", ["\(node.address(.v4))/24", "\(node.address(.v6))/64"], to: wire, "node\(node.index)")
    try wire.ip(["link set node\(node.index) master wire"])
  }
}

/// Networks to take down when the process ends in the middle of a test.
private enum LiveNetworks {
  private static let all = Mutex<[ObjectIdentifier: TestNetwork]>([:])
  private static let registration: Void = { atexit { LiveNetworks.tearDownAll() } }()

  static func add(_ network: TestNetwork) {
    _ = registration
    all.withLock { $0[ObjectIdentifier(network)] = network }
  }

  static func remove(_ network: TestNetwork) {
    all.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(network)) }
  }

  static func tearDownAll() {
    for network in all.withLock({ Array($0.values) }) { network.tearDown() }
  }
}
