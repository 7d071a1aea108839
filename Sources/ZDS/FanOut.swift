/// One request on its way to several ztunnels, and when its caller may go on (zds.md §6).
///
/// During an upgrade two ztunnels serve one node. Both get every add and every delete. An add counts as done when the
/// newest of them has it: that is the one which stays. Should it go away meanwhile, the next newest decides.
/// A delete is done when none has it any more; a connection that ended learns of it from its next snapshot.
public struct FanOut: Sendable {
  /// Names a connection; later ones are larger.
  public typealias Connection = UInt64

  public enum Kind: Sendable {
    case add
    case delete
  }

  /// A connection the request goes to.
  public struct Target: Sendable {
    public let connection: Connection
    /// Its snapshot is complete.
    public let live: Bool

    public init(connection: Connection, live: Bool) {
      self.connection = connection
      self.live = live
    }
  }

  public let kind: Kind
  /// Those that have not decided yet, the most important first.
  private var undecided: [Connection]
  private var outcomes: [Connection: Result<Void, ZDSError>] = [:]
  private var lastFailure: ZDSError?
  private var decided = false

  public init(_ kind: Kind, to targets: [Target]) {
    self.kind = kind
    undecided = targets.sorted { ($0.live ? 1 : 0, $0.connection) > ($1.live ? 1 : 0, $1.connection) }.map(\.connection)
  }

  /// What is known without any answer: the outcome when there is nobody to ask.
  public mutating func begin() -> Result<Void, ZDSError>? { decide() }

  /// Takes one connection's outcome. Returns the caller's, once.
  public mutating func receive(_ outcome: Result<Void, ZDSError>, from connection: Connection)
    -> Result<Void, ZDSError>?
  {
    outcomes[connection] = outcome
    return decide()
  }

  private mutating func decide() -> Result<Void, ZDSError>? {
    guard !decided else { return nil }
    while let first = undecided.first, let outcome = outcomes[first] {
      undecided.removeFirst()
      guard kind == .add else { continue }
      switch outcome {
      case .success, .failure(.refused):
        decided = true
        return outcome
      case .failure(let error):
        lastFailure = error
      }
    }
    guard undecided.isEmpty else { return nil }
    decided = true
    return kind == .add ? .failure(lastFailure ?? .notConnected) : .success(())
  }
}
