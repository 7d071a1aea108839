import Foundation
import Linux
import Synchronization
import Vocabulary

/// What happened to ordinary clients while something was disturbed.
public struct DisturbTally: Sendable {
  public var newConnections = 0
  /// Opened after the disturbance began, and not served.
  public var failedNew = 0
  public var liveConnections = 0
  /// Open when the disturbance began, and cut by it.
  public var brokenLive = 0
  /// Sent on broken connections and never echoed.
  public var lostBytes = 0
  /// The longest time between a word and its echo, or from connecting to the end of a short connection.
  public var longestStall = Duration.zero
  /// The first few reasons, for people.
  public var reasons: [String] = []

  public init() {}

  private static func isOfNew(_ reason: String) -> Bool { reason.hasPrefix("new") }

  public mutating func add(_ other: DisturbTally) {
    newConnections += other.newConnections
    failedNew += other.failedNew
    liveConnections += other.liveConnections
    brokenLive += other.brokenLive
    lostBytes += other.lostBytes
    longestStall = max(longestStall, other.longestStall)
    // Those of new connections first: they are what must not be.
    let all = reasons + other.reasons
    reasons = Array((all.filter(Self.isOfNew) + all.filter { !Self.isOfNew($0) }).prefix(5))
  }
}

/// Clients that know nothing of a mesh: some open connection after connection, some hold one and talk on it. None tries
/// anything again.
///
/// A connection that was begun before the disturbance counts as live: the proxy may have had it already.
public final class DisturbLoad: Sendable {
  private struct State {
    var tally = DisturbTally()
    var disturbed: ContinuousClock.Instant?
    var died: ContinuousClock.Instant?
    var isStopped = false
    var running = 0
    var warm = 0

    /// What a connection is called in reasons, with how long after the disturbance it was begun where it is a new one.
    func name(of begin: ContinuousClock.Instant, isNew: Bool) -> String {
      guard let disturbed else { return "before" }
      return isNew ? "new (\((begin - disturbed) / .milliseconds(1)) ms after)" : "live"
    }

    /// Of a connection that is over now. What was begun just before a process died may have been accepted by it, and
    /// died with it; what was begun earlier and was still not served had not been accepted, and must outlive it.
    func isNew(_ begin: ContinuousClock.Instant) -> Bool {
      guard let disturbed, begin >= disturbed else { return false }
      guard let died else { return true }
      return begin >= died || begin < died - DisturbLoad.service
    }
  }

  private let state = Mutex(State())
  private let connect: @Sendable () throws -> TCPConnection

  /// Longer than any stall that is still one.
  private static let patience = Duration.seconds(30)
  /// Time within which a connection that was accepted is served, by far.
  private static let service = Duration.seconds(1)
  private static let shortClients = 3
  private static let longClients = 4

  /// Starts the clients; returns when each has had an answer.
  public init(_ connect: @escaping @Sendable () throws -> TCPConnection) {
    self.connect = connect
    state.withLock { $0.running = Self.shortClients + Self.longClients }
    for _ in 0..<Self.shortClients { Thread.detachNewThread { [self] in shortConnections() } }
    for _ in 0..<Self.longClients { Thread.detachNewThread { [self] in longConnection() } }
    _ = eventually(within: .seconds(20)) { state.withLock { $0.warm == $0.running } }
  }

  /// Everything begun from now on is a new connection. Called when the disturbance has begun.
  public func disturb() { state.withLock { $0.disturbed = .now } }

  /// A process was killed. What was begun just before is no new connection: it died with the process that had accepted it.
  public func processDied() { state.withLock { $0.died = .now } }

  /// New connections that were served since the disturbance.
  public var servedSince: Int { state.withLock { $0.tally.newConnections - $0.tally.failedNew } }

  /// Ends the clients in order, and returns what they saw.
  public func stop() -> DisturbTally {
    state.withLock { $0.isStopped = true }
    _ = eventually(within: Self.patience + .seconds(10)) { state.withLock { $0.running == 0 } }
    return state.withLock { state in
      if state.running > 0 { state.tally.reasons.append("\(state.running) clients did not come to an end") }
      return state.tally
    }
  }

  private var isStopped: Bool { state.withLock { $0.isStopped } }

  private func shortConnections() {
    var isWarm = false
    while !isStopped {
      let begin = ContinuousClock.now
      var failure: String?
      do {
        let connection = try connect()
        let word = "a word of a short connection"
        if try connection.exchange(word, timeout: Self.patience) != word { failure = "other bytes came back" }
        try connection.finishSending()
        if try !connection.receiveToEnd(timeout: Self.patience).isEmpty { failure = "more bytes came back" }
      } catch { failure = "short: \(error)" }
      let took = ContinuousClock.now - begin
      state.withLock { state in
        if !isWarm { state.warm += 1 }
        let isNew = state.isNew(begin)
        let isAffected = state.disturbed != nil
        if isNew { state.tally.newConnections += 1 } else { state.tally.liveConnections += 1 }
        if let failure {
          if isNew { state.tally.failedNew += 1 } else { state.tally.brokenLive += 1 }
          state.tally.reasons.append("\(state.name(of: begin, isNew: isNew)) \(failure)")
        }
        if isAffected { state.tally.longestStall = max(state.tally.longestStall, took) }
      }
      isWarm = true
      usleep(3000)
    }
    state.withLock { $0.running -= 1 }
  }

  private func longConnection() {
    var isWarm = false
    while !isStopped {
      let begin = ContinuousClock.now
      var (sent, received) = (0, 0)
      var failure: String?
      do {
        let connection = try connect()
        while !isStopped {
          let turn = ContinuousClock.now
          let block = BytePattern.slice(at: sent, count: 1024)
          sent += block.count
          try connection.send(block, timeout: Self.patience)
          let echo = try connection.receive(block.count, timeout: Self.patience)
          guard BytePattern.matches(echo, at: received) else {
            failure = "long: other bytes came back"
            break
          }
          received += echo.count
          let took = ContinuousClock.now - turn
          state.withLock { state in
            if !isWarm { state.warm += 1 }
            if state.disturbed != nil { state.tally.longestStall = max(state.tally.longestStall, took) }
          }
          isWarm = true
          usleep(5000)
        }
        if failure == nil {
          try connection.finishSending()
          if try !connection.receiveToEnd(timeout: Self.patience).isEmpty { failure = "long: more bytes came back" }
        }
      } catch { failure = "long after \(received) bytes: \(error)" }
      state.withLock { state in
        if !isWarm { state.warm += 1 }
        let isNew = state.isNew(begin)
        if isNew { state.tally.newConnections += 1 } else { state.tally.liveConnections += 1 }
        if let failure {
          // One that was served for a while has not failed as a new one.
          if isNew, received == 0 { state.tally.failedNew += 1 } else { state.tally.brokenLive += 1 }
          state.tally.lostBytes += sent - received
          state.tally.reasons.append("\(state.name(of: begin, isNew: isNew)) \(failure)")
        }
      }
      isWarm = true
    }
    state.withLock { $0.running -= 1 }
  }
}
