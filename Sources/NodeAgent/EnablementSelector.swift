import Kubernetes
import YAML

/// Pods that want to be captured: those whose labels match, in namespaces whose labels match (enrollment.md §2).
public struct EnablementSelector: Hashable, Sendable {
  public var pods: LabelSelector
  public var namespaces: LabelSelector

  public init(pods: LabelSelector = LabelSelector(), namespaces: LabelSelector = LabelSelector()) {
    self.pods = pods
    self.namespaces = namespaces
  }

  public func matches(pod: [String: String], namespace: [String: String]) -> Bool {
    pods.matches(pod) && namespaces.matches(namespace)
  }

  static let dataplaneMode = "istio.io/dataplane-mode"

  /// What the label `istio.io/dataplane-mode` asks for, on the pod or on its namespace.
  public static let standard = [
    EnablementSelector(pods: LabelSelector([.isOneOf(dataplaneMode, ["ambient"])])),
    EnablementSelector(
      pods: LabelSelector([.isNoneOf(dataplaneMode, ["none"])]),
      namespaces: LabelSelector([.isOneOf(dataplaneMode, ["ambient"])])),
  ]
}

/// Reads the value of `AMBIENT_ENABLEMENT_SELECTOR`: a YAML or JSON list of pairs of the API's label selectors.
struct EnablementSelectorText {
  /// Why a text was refused.
  struct Refusal: Error, Equatable {
    let reason: String
  }

  /// Throws ``Refusal``. An empty text and an empty list select nothing.
  static func parse(_ text: String) throws(Refusal) -> [EnablementSelector] {
    guard text.utf8.count <= 64 << 10 else { throw Refusal(reason: "it is longer than 64 KiB") }
    let root: YAMLNode?
    do throws(YAMLError) { root = try YAMLReader.document(Array(text.utf8)) } catch {
      throw Refusal(reason: error.summary)
    }
    guard let root, root.scalar.map({ !$0.isEmpty && $0 != "null" }) ?? true else { return [] }
    guard let entries = root.sequence else { throw Refusal(reason: "it is no list") }
    var selectors: [EnablementSelector] = []
    for entry in entries {
      var selector = EnablementSelector()
      for (key, value) in try members(entry, "an entry") {
        switch key {
        case "podSelector": selector.pods = try labelSelector(value)
        case "namespaceSelector": selector.namespaces = try labelSelector(value)
        default: throw Refusal(reason: "`\(key.prefix(80))` is neither podSelector nor namespaceSelector")
        }
      }
      selectors.append(selector)
    }
    return selectors
  }

  private static func labelSelector(_ node: YAMLNode) throws(Refusal) -> LabelSelector {
    var selector = LabelSelector()
    for (key, value) in try members(node, "a selector") {
      switch key {
      case "matchLabels":
        for (label, text) in try members(value, "matchLabels") {
          guard let text = text.scalar else {
            throw Refusal(reason: "the value of label \(label.prefix(80)) is no text")
          }
          selector.requirements.append(.isOneOf(label, [text]))
        }
      case "matchExpressions":
        guard let expressions = value.sequence else { throw Refusal(reason: "matchExpressions is no list") }
        for expression in expressions { selector.requirements.append(try requirement(expression)) }
      default: throw Refusal(reason: "`\(key.prefix(80))` is neither matchLabels nor matchExpressions")
      }
    }
    return selector
  }

  private static func requirement(_ node: YAMLNode) throws(Refusal) -> LabelSelector.Requirement {
    guard let key = node["key"]?.scalar, !key.isEmpty, let name = node["operator"]?.scalar else {
      throw Refusal(reason: "an expression has no key or no operator")
    }
    var values: Set<String> = []
    if let list = node["values"], list.scalar?.isEmpty != true {
      guard let elements = list.sequence else { throw Refusal(reason: "the values of \(key.prefix(80)) are no list") }
      for element in elements {
        guard let text = element.scalar else { throw Refusal(reason: "a value of \(key.prefix(80)) is no text") }
        values.insert(text)
      }
    }
    switch name {
    case "In", "NotIn":
      guard !values.isEmpty else { throw Refusal(reason: "\(name) of \(key.prefix(80)) has no values") }
      return name == "In" ? .isOneOf(key, values) : .isNoneOf(key, values)
    case "Exists", "DoesNotExist":
      guard values.isEmpty else { throw Refusal(reason: "\(name) of \(key.prefix(80)) has values") }
      return name == "Exists" ? .exists(key) : .isAbsent(key)
    default: throw Refusal(reason: "`\(name.prefix(80))` is none of In, NotIn, Exists, DoesNotExist")
    }
  }

  private static func members(_ node: YAMLNode, _ what: String) throws(Refusal) -> [(String, YAMLNode)] {
    if node.scalar?.isEmpty == true { return [] }
    guard let mapping = node.mapping else { throw Refusal(reason: "\(what) is no mapping") }
    var members: [(String, YAMLNode)] = []
    for (key, value) in mapping {
      guard let key = key.scalar else { throw Refusal(reason: "a key of \(what) is no text") }
      members.append((key, value))
    }
    return members
  }
}
