import DequeModule

/// The node agent's side of one connection, without its socket: hello, then the snapshot, then live updates
/// (zds.md §4, §5).
///
/// Exactly one request is outstanding at any time, and an answer is matched to it by order alone. So anything that
/// would make the order doubtful closes the connection: an answer that is late, or a packet that nobody asked for
/// (zds.md Z1, §14.2). What a closed connection missed, the next snapshot brings.
public struct AgentSession<Namespace: Sendable>: Sendable {
  /// Names one submitted request until its outcome is reported.
  public typealias Ticket = UInt64

  public enum Input: Sendable {
    /// With so many descriptors.
    case packet([UInt8], descriptors: Int = 0)
    case endOfFile
    case failed(ZDSError)
    /// The timer armed under this number ran out.
    case deadline(Int)
    /// Everything that is enrolled now, the answer to ``Action/askSnapshot``.
    case snapshot([OutgoingRequest<Namespace>])
    case submit(Ticket, OutgoingRequest<Namespace>)
    case stop
  }

  public enum Action: Sendable {
    /// Hello came; the session wants ``Input/snapshot(_:)`` at once.
    case askSnapshot(ZDSHello)
    case send(OutgoingRequest<Namespace>)
    /// Replaces whatever timer was armed before.
    case armDeadline(Int)
    case finished(Ticket, Result<Void, ZDSError>)
    /// Ztunnel refused an entry of the snapshot. It keeps trying by itself.
    case snapshotEntryRefused(WorkloadUID, String)
    /// The descriptors of the packet at hand are listening sockets of this add's workload.
    case keepSockets(OutgoingRequest<Namespace>)
    /// The answer to ``ZDSRequest/identity(_:)``; nil where it does not say. The ticket is finished with it.
    case identityTold(Ticket, Bool?)
    case becameLive
    case close(ZDSError)
  }

  public enum Phase: Sendable, Equatable {
    case awaitingHello
    case snapshot
    case live
    case closed
  }

  private struct Outstanding {
    let request: OutgoingRequest<Namespace>
    /// Nil for what belongs to the snapshot.
    let ticket: Ticket?
  }

  public private(set) var phase = Phase.awaitingHello
  /// The ztunnel knows ``Handover``.
  public private(set) var knowsHandover = false
  /// The ztunnel answers ``ZDSRequest/identity(_:)``.
  public private(set) var tellsIdentities = false
  /// Requests wait here at most; one more closes the connection, because dropping one would leave the two sides in
  /// different states.
  public static var maximumQueued: Int { 4096 }

  private var snapshot: Deque<OutgoingRequest<Namespace>> = []
  private var queue: Deque<(ticket: Ticket, request: OutgoingRequest<Namespace>)> = []
  private var outstanding: Outstanding?
  private var deadline = 0

  /// A connection just accepted. The caller arms the timer number ``firstDeadline`` for the hello.
  public init() {}

  /// The number of the timer that limits the wait for the hello.
  public static var firstDeadline: Int { 0 }

  public mutating func receive(_ input: Input) -> [Action] {
    guard phase != .closed else {
      if case .submit(let ticket, _) = input { return [.finished(ticket, .failure(.closedByPeer))] }
      return []
    }
    switch input {
    case .packet(let bytes, let descriptors): return packet(bytes, descriptors)
    case .endOfFile: return close(.closedByPeer)
    case .failed(let error): return close(error)
    case .deadline(let number): return number == deadline ? deadlinePassed() : []
    case .snapshot(let entries): return begin(entries)
    case .submit(let ticket, let request): return submit(ticket, request)
    case .stop: return close(.stopped)
    }
  }

  private mutating func packet(_ bytes: [UInt8], _ descriptors: Int) -> [Action] {
    do {
      // Without the extension the agent is never given one (zds.md F9).
      if descriptors > 0, !knowsHandover { throw ZDSError.unexpectedDescriptors(count: descriptors) }
      if phase == .awaitingHello {
        let hello = try ZDSHello(decoding: bytes)
        phase = .snapshot
        knowsHandover = hello.succession != nil
        tellsIdentities = hello.succession?.tellsIdentities == true
        // The hello's timer has done its work.
        deadline += 1
        return [.askSnapshot(hello)]
      }
      guard let answered = outstanding else { return close(.unsolicited) }
      let (response, sockets) = try ZDSResponse.decode(bytes)
      guard sockets == descriptors, sockets == 0 || answered.request.namespace != nil else {
        throw ZDSError.unexpectedDescriptors(count: descriptors)
      }
      outstanding = nil
      deadline += 1
      if case .identity = answered.request.request, let ticket = answered.ticket {
        return [.identityTold(ticket, ZDSResponse.identity(in: bytes))] + next()
      }
      return (sockets > 0 ? [.keepSockets(answered.request)] : []) + outcome(of: answered, response) + next()
    } catch { return close(error as? ZDSError ?? .malformed(message: "WorkloadResponse")) }
  }

  private mutating func outcome(of answered: Outstanding, _ response: ZDSResponse) -> [Action] {
    if let ticket = answered.ticket {
      switch response {
      case .acknowledged: return [.finished(ticket, .success(()))]
      case .refused(let text): return [.finished(ticket, .failure(.refused(text)))]
      }
    }
    if case .snapshotSent = answered.request.request {
      phase = .live
      return [.becameLive]
    }
    if case .refused(let text) = response, let uid = answered.request.uid {
      return [.snapshotEntryRefused(uid, text)]
    }
    return []
  }

  private mutating func begin(_ entries: [OutgoingRequest<Namespace>]) -> [Action] {
    guard phase == .snapshot, outstanding == nil, snapshot.isEmpty else { return [] }
    do {
      snapshot = Deque(entries)
      snapshot.append(try .snapshotSent())
      return next()
    } catch { return close(error) }
  }

  private mutating func submit(_ ticket: Ticket, _ request: OutgoingRequest<Namespace>) -> [Action] {
    guard queue.count < Self.maximumQueued else {
      return [.finished(ticket, .failure(.tooManyQueued(limit: Self.maximumQueued)))]
        + close(.tooManyQueued(limit: Self.maximumQueued))
    }
    if case .delete(let uid) = request.request {
      // What left must not be started only to be stopped again.
      snapshot.removeAll { $0.uid == uid }
    }
    queue.append((ticket, request))
    return phase == .awaitingHello ? [] : next()
  }

  private mutating func next() -> [Action] {
    guard outstanding == nil else { return [] }
    if let entry = snapshot.popFirst() {
      outstanding = Outstanding(request: entry, ticket: nil)
    } else if phase == .live, let waiting = queue.popFirst() {
      outstanding = Outstanding(request: waiting.request, ticket: waiting.ticket)
    }
    guard let outstanding else { return [] }
    deadline += 1
    return [.send(outstanding.request), .armDeadline(deadline)]
  }

  private mutating func deadlinePassed() -> [Action] {
    if phase == .awaitingHello { return close(.helloTimeout) }
    guard let outstanding else { return [] }
    return close(.acknowledgementTimeout(request: outstanding.request.request.description))
  }

  private mutating func close(_ error: ZDSError) -> [Action] {
    phase = .closed
    var tickets = queue.map(\.ticket)
    if let ticket = outstanding?.ticket { tickets.insert(ticket, at: 0) }
    queue = []
    snapshot = []
    outstanding = nil
    return tickets.map { .finished($0, .failure(error)) } + [.close(error)]
  }
}
