import Glibc
import JSON
import Linux
import Synchronization
import ZDS

/// What the node agent has proven about a pod, as it says itself.
struct EnrolmentProofView: Equatable, Sendable {
  /// Such as `PROVEN` or `FENCED`.
  var state: String
  /// RFC 3339.
  var since: String
  /// RFC 3339; nil when never.
  var lastProven: String?
  var escapedPackets: Int?
  /// Packets that would have gone past ztunnel and were dropped.
  var stoppedPackets: Int?
  /// What differs from what is wanted, in words.
  var deviations: [String]

  var isAsWanted: Bool { state == "PROVEN" || state == "OUTSIDE" }
}

/// Asks the node agent of this machine, where its control socket can be reached, for its proofs. Safe from any thread.
///
/// Nobody waits for the agent: what it said last is shown, while a thread asks again.
final class EnrolmentProofs: Sendable {
  private struct State {
    var proofs: [String: EnrolmentProofView] = [:]
    var asked: ContinuousClock.Instant?
    var isAsking = false
  }

  static let defaultPath = "/run/ambient/node-agent.sock"
  private static let interval = Duration.seconds(3)
  private static let mostBytes = 8 << 20

  private let path: UnixSocketPath?
  private let threads = BlockingThreads(limit: 1, mostWaiting: 1)
  private let state = Mutex(State())

  /// `path` is the agent's control socket, `AMBIENT_STATUS_SOCKET`.
  init(path: String) { self.path = try? UnixSocketPath(path) }

  /// By `namespace/name`; empty where no agent answers. Answers that are too old are thrown away.
  var latest: [String: EnrolmentProofView] {
    guard let path else { return [:] }
    let (proofs, mustAsk) = state.withLock { state in
      let isStale = state.asked.map { .now - $0 > Self.interval } ?? true
      let mustAsk = isStale && !state.isAsking
      if mustAsk { state.isAsking = true }
      return (state.proofs, mustAsk)
    }
    if mustAsk {
      let take: @Sendable ([String: EnrolmentProofView]) -> Void = { [weak self] proofs in
        self?.state.withLock { $0 = State(proofs: proofs, asked: .now) }
      }
      threads.submit({ take(Self.ask(path)) }, orRefuse: { take([:]) })
    }
    return proofs
  }

  private static func ask(_ path: UnixSocketPath) -> [String: EnrolmentProofView] {
    guard let bytes = try? exchange(path), let answer = AdminQuery.parse(bytes),
      let status = try? JSON.JSONValue.parse(answer.body)
    else { return [:] }
    return proofs(in: status)
  }

  /// Reads what `node-agent status --json` prints.
  static func proofs(in status: JSON.JSONValue) -> [String: EnrolmentProofView] {
    var proofs: [String: EnrolmentProofView] = [:]
    for workload in status["workloads"]?.array ?? [] {
      guard let namespace = workload["namespace"]?.string, let name = workload["name"]?.string,
        let state = workload["state"]?.string
      else { continue }
      proofs["\(namespace)/\(name)"] = EnrolmentProofView(
        state: String(state.prefix(32)), since: workload["since"]?.string ?? "",
        lastProven: workload["lastProven"]?.string, escapedPackets: workload["escapedPackets"]?.integer,
        stoppedPackets: workload["stoppedPackets"]?.integer,
        deviations: (workload["deviations"]?.array ?? []).prefix(5).compactMap {
          $0.string.map { String($0.prefix(200)) }
        })
    }
    return proofs
  }

  private static func exchange(_ path: UnixSocketPath) throws(SystemError) -> [UInt8] {
    let descriptor = try path.connectedStream(timeoutSeconds: 2)
    let raw = descriptor.raw
    let question = Array("GET /status HTTP/1.0\r\nhost: node-agent\r\nconnection: close\r\n\r\n".utf8)
    try system("send") { send(raw, question, question.count, CInt(MSG_NOSIGNAL)) }
    var answer: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while answer.count <= mostBytes {
      let count = try system("recv") { recv(raw, &chunk, chunk.count, 0) }
      if count == 0 { break }
      answer += chunk.prefix(count)
    }
    return answer
  }
}
