/// Header fields in order. Names are lower case on the wire; pseudo headers begin with `:`.
public struct HTTP2Headers: Equatable, Sendable {
  /// One field.
  public struct Field: Equatable, Sendable {
    public var name: String
    public var value: String
  }

  public private(set) var fields: [Field] = []

  public init(_ fields: [(String, String)] = []) {
    self.fields = fields.map { Field(name: $0.0, value: $0.1) }
  }

  /// Puts a field at the end.
  public mutating func append(_ name: String, _ value: String) {
    fields.append(Field(name: name, value: value))
  }

  /// The value of the first field of that name.
  public subscript(name: String) -> String? {
    fields.first { $0.name == name }?.value
  }

  /// All values of that name, in order.
  public func all(_ name: String) -> [String] {
    fields.lazy.filter { $0.name == name }.map(\.value)
  }

  /// `:status` as a number 100...999.
  public var status: Int? {
    self[":status"].flatMap { Int($0) }.flatMap { (100...999).contains($0) ? $0 : nil }
  }
}
