/// The members of a JSON object, in the order they were written.
///
/// A key that occurs twice is kept twice; the last one counts, as it does for Go's decoder, with which we share files.
/// Two objects are equal when each key has the same value in both, whatever the order.
public struct JSONObject: Sendable {
  public struct Member: Hashable, Sendable {
    public var key: String
    public var value: JSONValue

    public init(key: String, value: JSONValue) {
      self.key = key
      self.value = value
    }
  }

  public private(set) var members: [Member]

  public init(_ members: [Member] = []) { self.members = members }

  public var isEmpty: Bool { members.isEmpty }

  /// Setting replaces the value in its place or adds the member at the end; nil removes the member.
  public subscript(_ key: String) -> JSONValue? {
    get { members.last { $0.key == key }?.value }
    set {
      guard let newValue else {
        members.removeAll { $0.key == key }
        return
      }
      guard let place = members.lastIndex(where: { $0.key == key }) else {
        members.append(Member(key: key, value: newValue))
        return
      }
      members[place].value = newValue
    }
  }

  /// The same members, ordered by key at every depth.
  public var sorted: JSONObject {
    JSONObject(members.sorted { $0.key < $1.key }.map { Member(key: $0.key, value: $0.value.sorted) })
  }

  /// What counts, by key.
  private var effective: [String: JSONValue] {
    Dictionary(members.map { ($0.key, $0.value) }) { $1 }
  }
}

extension JSONObject: Hashable {
  public static func == (one: JSONObject, other: JSONObject) -> Bool {
    one.members == other.members || one.effective == other.effective
  }

  public func hash(into hasher: inout Hasher) { hasher.combine(effective) }
}

extension JSONValue {
  /// The same value with the members of every object in it ordered by key.
  public var sorted: JSONValue {
    switch self {
    case .object(let object): .object(object.sorted)
    case .array(let elements): .array(elements.map(\.sorted))
    default: self
    }
  }
}
