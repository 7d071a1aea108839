import HashTreeCollections
import IstioAPI
import Mesh
import Vocabulary

/// How much of the mesh is subscribed to (xds.md §3.1).
public enum SubscriptionMode: Hashable, Sendable {
  case everything
  /// Addresses as the data path asks for them, and what the control plane adds to them; all policies.
  case onDemand
}

/// What is known of the control plane's resources and what to tell it next (xds.md §3).
///
/// Pure: it is told of a new stream, of each response and of what the data path needs, and answers with what to do, in
/// order. It outlives streams, so that a reconnect asks only for what has changed.
public struct DeltaSubscription: Sendable {
  typealias Request = Envoy_Service_Discovery_V3_DeltaDiscoveryRequest

  enum Action: Equatable, Sendable {
    case send(Request)
    /// Make these changes before the next request is sent: an answer says that they are made.
    case apply([MeshChange])
    /// What of a portion of a response is known from now on, to be kept for a restart before the next request is sent. A
    /// policy that was not understood, and that something stands in for, is in it as it came.
    case retain(RetainedPortion)
    /// A resource is not taken; the last good version of it stays. To be logged.
    case report(ResourceType, name: String, ResourceRejection)
    /// A type nobody asked for. To be logged.
    case reportUnknownType(String)
    /// Each type that is waited for was processed once (xds.md limit 1).
    case ready
  }

  let mode: SubscriptionMode
  private let node: NodeDescription
  private let retains: Bool
  private var decoder = ResourceDecoder()
  /// Retained resources and the version of each, by type.
  private var versions: [ResourceType: TreeDictionary<String, ResourceVersion>] = [:]
  /// Policies that something else stands in for, because they were never understood.
  private var standIns: Set<String> = []
  private var processed: Set<ResourceType> = []
  private var demanded = DemandedKeys()
  private var size = RequestSize()
  /// Types that have had no response on the stream of now.
  private var unanswered = Set(ResourceType.allCases)
  /// By type, what the first response to a request that named nothing has brought so far: what it does not bring is gone.
  private var relearnt: [ResourceType: Set<String>] = [:]

  /// With `retains` there are ``Action/retain(_:)`` actions. They are of use with ``SubscriptionMode/everything`` alone:
  /// what nobody used any more is given back without one.
  public init(node: NodeDescription, mode: SubscriptionMode = .everything, retains: Bool = false) {
    self.node = node
    self.mode = mode
    self.retains = retains
  }

  /// Takes what was retained before a restart, one encoded ``RetainedPortion`` after the other, and makes the mesh of it in
  /// `update`. The control plane is told of it on the first stream, and answers with what differs. Throws
  /// ``ResourceRejection`` where it is no response; then neither this subscription nor `update` is to be used.
  public mutating func restore(_ portion: [UInt8], into update: inout MeshUpdate) throws(ResourceRejection) {
    guard let response = try? DeltaResponse(portion) else { throw .undecodable }
    var intake = DeltaIntake(response)
    while !intake.isFinished {
      for case .apply(let changes) in take(&intake, atMost: Self.restoredPortion) { update.apply(changes) }
    }
  }

  /// Resources of which the changes are in memory at once.
  private static let restoredPortion = 256

  /// Resources retained of a type.
  func count(of type: ResourceType) -> Int { versions[type]?.count ?? 0 }

  var isReady: Bool { processed.isSuperset(of: mode == .onDemand ? [.authorization] : ResourceType.allCases) }

  // MARK: Streams

  /// A stream is open and nothing was sent on it.
  mutating func opened() -> [Request] {
    unanswered = Set(ResourceType.allCases)
    relearnt = [:]
    size.begin()
    return ResourceType.allCases.map { firstRequest($0) }
  }

  /// Subscribes to a type, naming what is held, so that the control plane sends what differs and says what is gone. Where
  /// the names are more than it takes in one request, none are named: then it sends everything.
  private mutating func firstRequest(_ type: ResourceType) -> Request {
    var request = Request()
    request.node = node.message
    request.typeURL = type.rawValue
    let held = versions[type] ?? [:]
    if size.admits(held.lazy.map { ($0.key, $0.value) }) {
      for (name, version) in held { request.initialResourceVersions[name] = version.text }
    } else {
      relearnt[type] = []
    }
    if type == .address, mode == .onDemand {
      // How "nothing" is said: without names it would be everything.
      request.resourceNamesSubscribe = ["*"]
      request.resourceNamesUnsubscribe = ["*"]
      for key in demanded.all where request.initialResourceVersions[key.description] == nil {
        request.initialResourceVersions[key.description] = ""
      }
    }
    return request
  }

  /// The stream ended because a request was too large for the control plane. True where the requests of the next one are
  /// smaller; false where they cannot be, or were not the reason.
  mutating func refusedForSize() -> Bool { !unanswered.isEmpty && size.shrink() }

  // MARK: Responses

  /// Takes up to `limit` of a response's resources and removals, in this order. To be repeated until the intake is
  /// finished, and then ``finish(_:)``.
  mutating func take(_ intake: inout DeltaIntake, atMost limit: Int) -> [Action] {
    guard let type = intake.type else {
      let url = intake.response.typeURL
      intake.reject("\(url.prefix(256)): the type was not subscribed to")
      intake.isFinished = true
      return [.reportUnknownType(url)]
    }
    var changes: [MeshChange] = []
    var actions: [Action] = []
    var retained = RetainedPortion(typeURL: type.rawValue)
    for _ in 0..<limit {
      guard let resource = intake.response.next() else {
        guard let name = intake.response.nextRemoved() ?? nextLost(of: type, &intake) else {
          intake.isFinished = true
          break
        }
        remove(name, of: type, &changes, &actions)
        if retains { retained.drop(name) }
        continue
      }
      relearnt[type]?.insert(resource.name)
      let bytes = resource.value ?? []
      intake.contentBytes += bytes.count
      do throws(ResourceRejection) {
        guard resource.value != nil else { throw .undecodable }
        changes.append(try decoder.change(type, name: resource.name, bytes: bytes))
        versions[type, default: [:]][resource.name] = ResourceVersion(resource.version)
        if retains { retained.keep(resource, of: intake.response) }
        if type == .authorization { standIns.remove(resource.name) }
      } catch {
        actions.append(.report(type, name: resource.name, error))
        intake.reject("\(resource.name.prefix(512)): \(error.summary)")
        if type == .authorization, let change = standIn(for: resource.name, bytes) {
          changes.append(change)
          if retains { retained.keep(resource, of: intake.response, standingIn: change) }
        }
      }
      if type == .address, mode == .onDemand { settle(resource, &changes) }
    }
    if !retained.entries.isEmpty { actions.append(.retain(retained)) }
    if !changes.isEmpty { actions.append(.apply(changes)) }
    return actions
  }

  /// Answers a response whose changes are in force.
  mutating func finish(_ intake: DeltaIntake) -> [Action] {
    var actions: [Action] = [.send(answer(intake))]
    let wasReady = isReady
    if let type = intake.type {
      processed.insert(type)
      unanswered.remove(type)
    }
    if isReady, !wasReady { actions.append(.ready) }
    return actions
  }

  /// The next name of what is held and was not sent again, after the last resource of a response that held everything.
  private mutating func nextLost(of type: ResourceType, _ intake: inout DeltaIntake) -> String? {
    if let came = relearnt.removeValue(forKey: type) {
      intake.lost = (versions[type] ?? [:]).keys.filter { !came.contains($0) }
    }
    return intake.lost.popLast()
  }

  private mutating func remove(
    _ name: String, of type: ResourceType, _ changes: inout [MeshChange], _ actions: inout [Action]
  ) {
    versions[type]?[name] = nil
    switch type {
    case .authorization:
      standIns.remove(name)
      changes.append(.removePolicy(key: name))
    case .address:
      changes.append(.removeAddress(name: name))
      guard mode == .onDemand else { return }
      let key = MeshKey(name)
      let orphans = demanded.forget(resource: name)
      if demanded.answer(key, with: nil) { changes.append(.settle(key)) }
      guard !orphans.isEmpty else { return }
      changes += orphans.map(MeshChange.unsettle)
      actions += changeOfNames(subscribe: [], unsubscribe: orphans.map(\.description)).map(Action.send)
    }
  }

  /// What is to be in force for a policy that is not understood, unless an earlier version of it was.
  private mutating func standIn(for name: String, _ bytes: [UInt8]) -> MeshChange? {
    guard versions[.authorization]?[name] == nil || standIns.contains(name) else { return nil }
    guard let policy = PolicyStandIn.policy(name: name, bytes: bytes) else {
      guard standIns.remove(name) != nil else { return nil }
      versions[.authorization]?[name] = nil
      return .removePolicy(key: name)
    }
    standIns.insert(name)
    // Retained without a version: the control plane says when it is gone, and sends it again until then.
    versions[.authorization, default: [:]][name] = ResourceVersion("")
    return .upsertPolicy(policy)
  }

  /// ACK, or NACK where there are reasons; neither names resources, which would change the subscription.
  private func answer(_ intake: DeltaIntake) -> Request {
    var request = Request()
    request.typeURL = intake.response.typeURL
    request.responseNonce = intake.response.nonce
    if !intake.reasons.isEmpty {
      let omitted = intake.rejectedCount - intake.reasons.count
      request.errorDetail.code = Self.invalidArgument
      request.errorDetail.message =
        intake.reasons.joined(separator: "; ") + (omitted > 0 ? "; and \(omitted) more" : "")
    }
    return request
  }

  /// google.rpc.Code.
  private static let invalidArgument: Int32 = 3

  // MARK: On demand

  /// What the data path uses, for the pods that it is for: what to send for what is new.
  mutating func demand(_ demands: [Demand], at now: ContinuousClock.Instant) -> [Request] {
    guard mode == .onDemand else { return [] }
    let new = demands.flatMap { demanded.use($0.keys, by: $0.pod, at: now) }
    return changeOfNames(subscribe: new.map(\.description), unsubscribe: [])
  }

  /// More is held than should be; ``release(from:at:)`` is not to wait for its time.
  var holdsTooMuch: Bool { demanded.isFull }

  /// Gives back what nobody has used for long, and all that was only there for it.
  mutating func release(from mesh: MeshSnapshot, at now: ContinuousClock.Instant) -> [Action] {
    let released = demanded.release(at: now)
    guard !released.isEmpty else { return [] }
    let needed = mesh.names(neededFor: demanded.all)
    let superfluous = (versions[.address] ?? [:]).keys.filter { !needed.contains($0) }
    for name in superfluous { versions[.address]?[name] = nil }
    let names = Set(released.map(\.description)).union(superfluous)
    // Sent first: who asks for one of them from now on asks after it was given back.
    return changeOfNames(subscribe: [], unsubscribe: names.sorted()).map(Action.send)
      + [.apply(released.map(MeshChange.unsettle) + superfluous.map { .removeAddress(name: $0) })]
  }

  /// Those that were asked for and are found in `mesh`, whatever they were called in the answer.
  mutating func settleFound(in mesh: MeshSnapshot) -> [MeshChange] {
    demanded.pending.filter { mesh.finds($0) }.map { key in
      _ = demanded.answer(key, with: mesh.names(under: key).first)
      return .settle(key)
    }
  }

  /// A resource answers for its own name and for its aliases (xds.md limit 2).
  private mutating func settle(_ resource: DeltaResponse.Resource, _ changes: inout [MeshChange]) {
    for text in resource.aliases + [resource.name] {
      let key = MeshKey(text)
      if demanded.answer(key, with: resource.name) { changes.append(.settle(key)) }
    }
  }

  /// As many requests as it takes for each to be of a size that is accepted.
  private func changeOfNames(subscribe: [String], unsubscribe: [String]) -> [Request] {
    func requests(_ names: [String], _ field: WritableKeyPath<Request, [String]>) -> [Request] {
      stride(from: 0, to: names.count, by: RequestSize.mostNames).map { start in
        var request = Request()
        request.typeURL = ResourceType.address.rawValue
        request[keyPath: field] = Array(names[start..<min(start + RequestSize.mostNames, names.count)])
        return request
      }
    }
    return requests(unsubscribe, \.resourceNamesUnsubscribe) + requests(subscribe, \.resourceNamesSubscribe)
  }
}

/// A response that is being taken, a portion at a time.
struct DeltaIntake {
  fileprivate(set) var response: DeltaResponse
  let type: ResourceType?
  fileprivate(set) var isFinished = false
  /// Names that go because the response did not hold them.
  fileprivate var lost: [String] = []
  private(set) var rejectedCount = 0
  /// Why resources were refused: the first ones.
  private(set) var reasons: [String] = []
  /// Bytes of all resources' content so far.
  fileprivate(set) var contentBytes = 0

  init(_ response: DeltaResponse) {
    self.response = response
    type = ResourceType(rawValue: response.typeURL)
  }

  fileprivate mutating func reject(_ reason: String) {
    rejectedCount += 1
    if reasons.count < Self.mostReasons { reasons.append(reason) }
  }

  /// Reasons told at once.
  private static let mostReasons = 100
}
