import Vocabulary

/// One log line under construction: columns first, then fields in the order they are added, then ``finish()``.
struct LogLine: ~Copyable {
  private let format: LogFormat
  private var bytes: [UInt8] = []
  private var journal = JournalEntry()
  private var hasFields = false

  /// Starts a line. `scope` is the full target: the plain format drops the leading `ztunnel::` (observability.md §1.1).
  init(
    _ format: LogFormat, time: LogTimestamp, level: LogThreshold, scope: String, spans: [LogSpan] = [],
    message: String
  ) {
    self.format = format
    bytes.reserveCapacity(768)
    switch format {
    case .journal:
      // What people see of an entry is its message, so that the fields are in it as well as beside it.
      bytes.append(contentsOf: Self.shortened(scope))
      for span in spans { appendPlain(span) }
      bytes.append(text: ": ")
      bytes.append(escaped: message, in: .plain, escapingQuotes: false)
      journal.append("PRIORITY", text: level.journalPriority)
      journal.append("TARGET", text: scope)
      for span in spans {
        for (key, value) in span.fields { journal.append("\(span.name).\(key)", value) }
      }
    case .plain:
      time.append(to: &bytes)
      bytes.append(UInt8(ascii: "\t"))
      bytes.append(text: level.description)
      bytes.append(UInt8(ascii: "\t"))
      bytes.append(contentsOf: Self.shortened(scope))
      for span in spans { appendPlain(span) }
      if !message.isEmpty {
        bytes.append(UInt8(ascii: "\t"))
        bytes.append(escaped: message, in: .plain, escapingQuotes: false)
      }
    case .json:
      bytes.append(text: "{\"level\":\"")
      bytes.append(text: level.description)
      bytes.append(text: "\",\"time\":\"")
      time.append(to: &bytes)
      bytes.append(text: "\",\"scope\":")
      bytes.append(jsonString: scope)
      if !message.isEmpty {
        bytes.append(text: ",\"message\":")
        bytes.append(jsonString: message)
      }
    }
  }

  mutating func field(_ key: String, _ value: String?) {
    guard let value else { return }
    begin(key)
    if format == .journal { journal.append(key, text: value) }
    switch format {
    case .plain, .journal: bytes.append(quoted: value)
    case .json: bytes.append(jsonString: value)
    }
  }

  mutating func field(_ key: String, address: SocketAddress?) {
    guard let address else { return }
    begin(key)
    if format == .journal { journal.append(key, text: address.description) }
    if format == .json { bytes.append(UInt8(ascii: "\"")) }
    bytes.append(address: address)
    if format == .json { bytes.append(UInt8(ascii: "\"")) }
  }

  mutating func field(_ key: String, integer: some BinaryInteger) {
    begin(key)
    if format == .journal { journal.append(key, text: "\(integer)") }
    bytes.append(integer: integer)
  }

  /// Text that stands for itself, such as a host and port: bare in plain, a string in JSON.
  mutating func field(_ key: String, bare value: String) {
    begin(key)
    if format == .journal { journal.append(key, text: value) }
    switch format {
    case .plain, .journal: bytes.append(bare: value)
    case .json: bytes.append(jsonString: value)
    }
  }

  mutating func field(_ key: String, _ value: LogValue) {
    begin(key)
    if format == .journal { journal.append(key, value) }
    value.append(to: &bytes, in: format)
  }

  /// A span's fields as an object under its name. The plain format has them in the scope column already.
  mutating func spanObject(_ span: LogSpan) {
    guard format == .json else { return }
    begin(span.name)
    bytes.append(UInt8(ascii: "{"))
    for (index, (key, value)) in span.fields.enumerated() {
      if index > 0 { bytes.append(UInt8(ascii: ",")) }
      bytes.append(jsonString: key)
      bytes.append(UInt8(ascii: ":"))
      value.append(to: &bytes, in: .json)
    }
    bytes.append(UInt8(ascii: "}"))
  }

  /// The whole line with its newline; for the journal, the encoded entry.
  consuming func finish() -> [UInt8] {
    switch format {
    case .journal:
      journal.append("MESSAGE", bytes: bytes)
      return journal.bytes
    case .json: bytes.append(text: "}\n")
    case .plain: bytes.append(UInt8(ascii: "\n"))
    }
    return bytes
  }

  private mutating func begin(_ key: String) {
    switch format {
    case .plain, .journal:
      bytes.append(hasFields || format == .journal ? UInt8(ascii: " ") : UInt8(ascii: "\t"))
      bytes.append(bare: key)
      bytes.append(UInt8(ascii: "="))
    case .json:
      bytes.append(UInt8(ascii: ","))
      bytes.append(jsonString: key)
      bytes.append(UInt8(ascii: ":"))
    }
    hasFields = true
  }

  private mutating func appendPlain(_ span: LogSpan) {
    bytes.append(UInt8(ascii: ":"))
    bytes.append(text: span.name)
    guard !span.fields.isEmpty else { return }
    bytes.append(UInt8(ascii: "{"))
    for (index, (key, value)) in span.fields.enumerated() {
      if index > 0 { bytes.append(UInt8(ascii: " ")) }
      bytes.append(bare: key)
      bytes.append(UInt8(ascii: "="))
      value.append(to: &bytes, in: .plain)
    }
    bytes.append(UInt8(ascii: "}"))
  }

  private static func shortened(_ scope: String) -> Substring.UTF8View {
    let root = "ztunnel::"
    return scope.hasPrefix(root) ? scope.dropFirst(root.count).utf8 : scope[...].utf8
  }
}
