/// A JSON value (RFC 8259) that loses nothing on the way through: members keep their order, also those nobody asked for,
/// and numbers keep their digits.
public enum JSONValue: Hashable, Sendable {
  case null
  case bool(Bool)
  case number(JSONNumber)
  case string(String)
  case array([JSONValue])
  case object(JSONObject)
}

extension JSONValue {
  /// A number from an integer.
  public static func integer(_ value: Int) -> JSONValue { .number(JSONNumber(value)) }

  /// An array of strings.
  public static func strings(_ values: some Sequence<String>) -> JSONValue { .array(values.map(JSONValue.string)) }

  public var isNull: Bool { self == .null }

  /// The text of a string; nil for any other kind.
  public var string: String? {
    if case .string(let text) = self { text } else { nil }
  }

  public var bool: Bool? {
    if case .bool(let value) = self { value } else { nil }
  }

  /// The value of a number that is written without fraction and exponent and fits; nil for anything else.
  public var integer: Int? {
    if case .number(let number) = self { number.integer } else { nil }
  }

  public var array: [JSONValue]? {
    if case .array(let elements) = self { elements } else { nil }
  }

  public var object: JSONObject? {
    if case .object(let object) = self { object } else { nil }
  }

  /// The member of an object; nil for any other kind, and where there is none.
  public subscript(_ key: String) -> JSONValue? { object?[key] }

  /// What kind of value it is, in the words of RFC 8259.
  public var kind: String {
    switch self {
    case .null: "null"
    case .bool: "boolean"
    case .number: "number"
    case .string: "string"
    case .array: "array"
    case .object: "object"
    }
  }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByBooleanLiteral, ExpressibleByIntegerLiteral,
  ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
  public init(stringLiteral value: String) { self = .string(value) }
  public init(booleanLiteral value: Bool) { self = .bool(value) }
  public init(integerLiteral value: Int) { self = .integer(value) }
  public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
  public init(nilLiteral: ()) { self = .null }

  public init(dictionaryLiteral elements: (String, JSONValue)...) {
    self = .object(JSONObject(elements.map { JSONObject.Member(key: $0.0, value: $0.1) }))
  }
}

/// A number as it was written: `1e400` and `0.10` come out as they went in.
public struct JSONNumber: Hashable, Sendable {
  public let text: String

  public init(_ value: Int) { text = String(value) }

  /// `text` is known to be a number of RFC 8259.
  init(checked text: String) { self.text = text }

  public var integer: Int? { Int(text) }
}
