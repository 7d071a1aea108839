/// The header fields of a message in their order, names in lower case.
public struct HTTPHeaders: Sendable, Equatable, ExpressibleByDictionaryLiteral {
  public struct Field: Sendable, Equatable {
    public let name: String
    public let value: String
  }

  public private(set) var fields: [Field] = []

  public init() {}

  public init(dictionaryLiteral elements: (String, String)...) {
    for (name, value) in elements { append(name, value) }
  }

  public mutating func append(_ name: String, _ value: String) {
    fields.append(Field(name: name.lowercased(), value: value))
  }

  /// The first value of a field; `name` in lower case.
  public subscript(name: String) -> String? { fields.first { $0.name == name }?.value }

  /// Every value of a field, in order; `name` in lower case.
  public func all(_ name: String) -> [String] { fields.filter { $0.name == name }.map(\.value) }

  /// The members of a comma-separated list field over all of its lines, trimmed, in lower case.
  public func list(_ name: String) -> [String] {
    all(name).flatMap { $0.split(separator: ",") }.map { member in
      var member = member
      while let first = member.first, first == " " || first == "\t" { member.removeFirst() }
      while let last = member.last, last == " " || last == "\t" { member.removeLast() }
      return member.lowercased()
    }
  }
}
