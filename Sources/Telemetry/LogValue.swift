import Logging
public import Vocabulary

/// A typed value of a log field, which decides how it is written (observability.md §1.1, §1.2).
public enum LogValue: Sendable {
  /// Quoted.
  case string(String)
  /// Bare in plain and a string in JSON: addresses, prefixes.
  case bare(String)
  /// Bare in both.
  case integer(Int64)
  /// Bare in both; a value JSON has no number for (infinite, not a number) becomes a string there.
  case number(Double)
  case boolean(Bool)
  case array([LogValue])
  /// In the order given.
  case object([(String, LogValue)])

  /// What swift-log carries: `.string` is text, `.stringConvertible` keeps the type of numbers, booleans and addresses.
  init(_ value: Logger.MetadataValue) {
    switch value {
    case .string(let text): self = .string(text)
    case .stringConvertible(let value): self = Self.typed(value)
    case .array(let values): self = .array(values.map(LogValue.init))
    case .dictionary(let metadata): self = .object(Self.sorted(metadata))
    }
  }

  /// Metadata dictionaries have no order, so fields are sorted: the same event always gives the same line.
  static func sorted(_ metadata: Logger.Metadata) -> [(String, LogValue)] {
    metadata.sorted { $0.key < $1.key }.map { ($0.key, LogValue($0.value)) }
  }

  private static func typed(_ value: any CustomStringConvertible & Sendable) -> LogValue {
    switch value {
    case let boolean as Bool: .boolean(boolean)
    case let integer as any BinaryInteger: Int64(exactly: integer).map(LogValue.integer) ?? .bare("\(integer)")
    case let number as Double: .number(number)
    case let number as Float: .number(Double(number))
    case is SocketAddress, is IPAddress, is IPPrefix: .bare(value.description)
    default: .string(value.description)
    }
  }

  func append(to bytes: inout [UInt8], in format: LogFormat) {
    switch (self, format) {
    case (.string(let text), .plain), (.string(let text), .journal): bytes.append(quoted: text)
    case (.bare(let text), .plain), (.bare(let text), .journal): bytes.append(bare: text)
    case (.string(let text), .json), (.bare(let text), .json): bytes.append(jsonString: text)
    case (.integer(let value), _): bytes.append(integer: value)
    case (.number(let value), .json) where !value.isFinite: bytes.append(jsonString: value.description)
    case (.number(let value), _): bytes.append(text: value.description)
    case (.boolean(let value), _): bytes.append(text: value ? "true" : "false")
    case (.array(let values), _):
      bytes.append(UInt8(ascii: "["))
      for (index, value) in values.enumerated() {
        if index > 0 { bytes.append(text: format == .json ? "," : ", ") }
        value.append(to: &bytes, in: format)
      }
      bytes.append(UInt8(ascii: "]"))
    case (.object(let fields), _):
      bytes.append(UInt8(ascii: "{"))
      for (index, (key, value)) in fields.enumerated() {
        if index > 0 { bytes.append(text: format == .json ? "," : ", ") }
        if format == .json { bytes.append(jsonString: key) } else { bytes.append(quoted: key) }
        bytes.append(text: format == .json ? ":" : ": ")
        value.append(to: &bytes, in: format)
      }
      bytes.append(UInt8(ascii: "}"))
    }
  }
}

extension LogValue: ExpressibleByStringLiteral {
  public init(stringLiteral value: String) { self = .string(value) }
}

extension LogValue {
  /// An address, written bare.
  public static func address(_ address: SocketAddress) -> LogValue { .bare(address.description) }
}
