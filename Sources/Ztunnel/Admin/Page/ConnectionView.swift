import Telemetry
import ZDS

/// Which of the live connections somebody looks at, in what order, and how many at most.
struct ConnectionView: Sendable {
  struct Row: Sendable {
    var pod: String
    var connection: ConnectionSnapshot
    /// Bytes a second since the last look; 0 at the first.
    var sentRate: UInt64 = 0
    var receivedRate: UInt64 = 0

    var rate: UInt64 { sentRate &+ receivedRate }
  }

  /// Part of a pod's, workload's, service's or identity's name, or of an address; empty for all.
  var search = ""
  /// Only those in plaintext.
  var onlyPlaintext = false
  var limit = Self.defaultLimit

  static let defaultLimit = 200
  static let mostRows = 1000

  init(search: String = "", onlyPlaintext: Bool = false, limit: Int = Self.defaultLimit) {
    self.search = String(search.prefix(128)).lowercased()
    self.onlyPlaintext = onlyPlaintext
    self.limit = min(max(limit, 1), Self.mostRows)
  }

  func includes(_ row: Row) -> Bool {
    if onlyPlaintext, row.connection.plaintext == nil { return false }
    guard !search.isEmpty else { return true }
    let record = row.connection.record
    let names = [
      row.pod, record.source.workload, record.destination.workload, record.service,
      record.source.identity?.description, record.destination.identity?.description, "\(record.source.address)",
      "\(record.destination.address)", "\(row.connection.actual)", row.connection.original?.description,
    ]
    return names.contains { $0?.lowercased().contains(search) == true }
  }

  /// Those included, the busiest first and of equals the youngest, `limit` at most; and how many there are.
  func select(_ rows: [Row]) -> (rows: [Row], matching: Int) {
    let matching = rows.filter(includes)
    let ordered = matching.sorted { left, right in
      left.rate != right.rate ? left.rate > right.rate : left.connection.age < right.connection.age
    }
    return (Array(ordered.prefix(limit)), matching.count)
  }

  /// From one look to the next, what each connection had moved. A value of one watcher.
  struct Progress {
    private var moved: [Int: (sent: UInt64, received: UInt64)] = [:]
    private var last: ContinuousClock.Instant?

    /// Fills in the rates.
    mutating func measure(_ rows: inout [Row], at now: ContinuousClock.Instant = .now) {
      let span = last.map { $0.duration(to: now) } ?? .zero
      let seconds = Double(span.components.seconds) + Double(span.components.attoseconds) / 1e18
      var seen: [Int: (sent: UInt64, received: UInt64)] = [:]
      seen.reserveCapacity(rows.count)
      for index in rows.indices {
        let connection = rows[index].connection
        seen[connection.id] = (connection.bytesSent, connection.bytesReceived)
        guard seconds > 0 else { continue }
        // One that came since counts from its beginning; smaller numbers are those of another one.
        let before = moved[connection.id] ?? (0, 0)
        rows[index].sentRate = Self.rate(before.sent, connection.bytesSent, seconds)
        rows[index].receivedRate = Self.rate(before.received, connection.bytesReceived, seconds)
      }
      moved = seen
      last = now
    }

    private static func rate(_ before: UInt64, _ after: UInt64, _ seconds: Double) -> UInt64 {
      UInt64(Double(after >= before ? after - before : after) / seconds)
    }
  }
}

extension ConnectionView.Row {
  /// Everything there is to tell of it.
  var json: JSONValue {
    guard case .object(var members) = connection.details(of: pod) else { return .null }
    members["id"] = .string(String(UInt(bitPattern: connection.id), radix: 36))
    members["sentRate"] = .integer(Int64(clamping: sentRate))
    members["receivedRate"] = .integer(Int64(clamping: receivedRate))
    return .object(members)
  }
}
