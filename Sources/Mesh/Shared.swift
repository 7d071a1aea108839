/// A value that many hold and none changes, in one place in memory. Equal where the values are.
public final class Shared<Value: Hashable & Sendable>: Sendable {
  public let value: Value

  public init(_ value: Value) { self.value = value }
}

extension Shared: Hashable {
  public static func == (left: Shared, right: Shared) -> Bool { left === right || left.value == right.value }

  public func hash(into hasher: inout Hasher) { hasher.combine(value) }
}

/// Finds values that are there already, so that equal ones are kept once.
///
/// It remembers a bounded number: when a generation is full, the one before it is forgotten, and what is still asked for
/// moves on. Forgetting costs memory only, never an answer.
public struct SharingPool<Value: Hashable & Sendable>: Sendable {
  private let limit: Int
  private var young: Set<Shared<Value>> = []
  private var old: Set<Shared<Value>> = []

  /// Remembers up to twice `limit` values.
  public init(limit: Int = 16_384) { self.limit = limit }

  /// How many values are remembered.
  public var count: Int { young.count + old.count }

  /// The value that was given first among equal ones.
  public mutating func shared(_ value: Shared<Value>) -> Shared<Value> {
    let (inserted, member) = young.insert(old.isEmpty ? value : old.remove(value) ?? value)
    if inserted, young.count >= limit {
      old = young
      young = []
    }
    return member
  }
}
