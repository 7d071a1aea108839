/// Which labels an object must have (the API's `LabelSelector`).
public struct LabelSelector: Hashable, Sendable {
  /// One demand. All of a selector's demands must hold.
  public enum Requirement: Hashable, Sendable {
    case isOneOf(String, Set<String>)
    /// Also met where the label is absent.
    case isNoneOf(String, Set<String>)
    case exists(String)
    case isAbsent(String)
  }

  public var requirements: [Requirement]

  /// Without a demand it matches everything.
  public init(_ requirements: [Requirement] = []) { self.requirements = requirements }

  public var isEmpty: Bool { requirements.isEmpty }

  public func matches(_ labels: [String: String]) -> Bool {
    requirements.allSatisfy { requirement in
      switch requirement {
      case .isOneOf(let key, let values): labels[key].map(values.contains) ?? false
      case .isNoneOf(let key, let values): labels[key].map { !values.contains($0) } ?? true
      case .exists(let key): labels[key] != nil
      case .isAbsent(let key): labels[key] == nil
      }
    }
  }
}
