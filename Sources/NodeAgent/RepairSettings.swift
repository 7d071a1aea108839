import Kubernetes

/// What to do with pods whose sidecar found no redirection because they were faster than whoever writes it
/// (enrollment.md §11).
public struct RepairSettings: Equatable, Sendable {
  public enum Action: String, Sendable {
    case delete
    case label
  }

  /// Writing redirection for sidecars is asked for (`REPAIR_REPAIR_PODS`), which this agent does not do.
  public var wantsRedirection: Bool
  /// Nil: such pods are only reported.
  public var action: Action?
  public var nodeName: String
  public var labelKey = "cni.istio.io/uninitialized"
  public var labelValue = "true"
  public var sidecarAnnotation = "sidecar.istio.io/status"
  public var initContainer = "istio-validation"
  /// 0: any.
  public var exitCode = 126
  /// Empty: any.
  public var terminationMessage = ""
  public var selector = LabelSelector()

  public init(wantsRedirection: Bool = false, action: Action? = nil, nodeName: String) {
    self.wantsRedirection = wantsRedirection
    self.action = action
    self.nodeName = nodeName
  }

  /// Nil where repair is off. Throws ``ConfigurationError``.
  init?(_ environment: [String: String]) throws(ConfigurationError) {
    func text(_ name: String, _ standard: String) -> String {
      environment[name].flatMap { $0.isEmpty ? nil : $0 } ?? standard
    }
    func flag(_ name: String) throws(ConfigurationError) -> Bool {
      try NodeAgentConfiguration.boolean(name, environment, default: false)
    }
    guard try NodeAgentConfiguration.boolean("REPAIR_ENABLED", environment, default: true) else { return nil }
    wantsRedirection = try flag("REPAIR_REPAIR_PODS")
    if try flag("REPAIR_DELETE_PODS") {
      action = .delete
    } else if try flag("REPAIR_LABEL_PODS") {
      action = .label
    }
    // Without a name of its own, repair is for this node (enrollment.md limit 19).
    nodeName = text("REPAIR_NODE_NAME", text("NODE_NAME", ""))
    labelKey = text("REPAIR_BROKEN_POD_LABEL_KEY", labelKey)
    labelValue = text("REPAIR_BROKEN_POD_LABEL_VALUE", labelValue)
    sidecarAnnotation = text("REPAIR_SIDECAR_ANNOTATION", sidecarAnnotation)
    initContainer = text("REPAIR_INIT_CONTAINER_NAME", initContainer)
    terminationMessage = text("REPAIR_INIT_CONTAINER_TERMINATION_MESSAGE", "")
    if let value = environment["REPAIR_INIT_CONTAINER_EXIT_CODE"], !value.isEmpty {
      guard let code = Int(value) else {
        throw ConfigurationError(setting: "REPAIR_INIT_CONTAINER_EXIT_CODE", value: value, expected: "a number")
      }
      exitCode = code
    }
    selector = try Self.selector(text("REPAIR_LABEL_SELECTORS", ""))
    let fields = text("REPAIR_FIELD_SELECTORS", "")
    guard fields.isEmpty else {
      throw ConfigurationError(
        setting: "REPAIR_FIELD_SELECTORS", value: fields, expected: "empty: pods of this node are chosen by labels")
    }
  }

  /// Whether this pod's sidecar found no redirection.
  public func isBroken(_ pod: Pod) -> Bool {
    guard pod.nodeName == nodeName, pod.meta.annotations[sidecarAnnotation] != nil, selector.matches(pod.meta.labels)
    else { return false }
    return pod.initContainers.contains { container in
      guard container.name == initContainer, container.ended?.exitCode != 0, let before = container.endedBefore else {
        return false
      }
      let message = before.message.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed()
      return (exitCode == 0 || before.exitCode == exitCode)
        && (terminationMessage.isEmpty || String(message) == terminationMessage)
    }
  }

  /// `key=value`, `key!=value`, `key` and `!key`, separated by commas.
  private static func selector(_ text: String) throws(ConfigurationError) -> LabelSelector {
    var selector = LabelSelector()
    for part in text.split(separator: ",").map({ $0.trimmingSpaces() }) where !part.isEmpty {
      let words = part.split(separator: "=", omittingEmptySubsequences: true).map { $0.trimmingSpaces() }
      guard words.count <= 2, let first = words.first, !part.contains(where: { "() ".contains($0) }) else {
        throw ConfigurationError(
          setting: "REPAIR_LABEL_SELECTORS", value: String(text.prefix(200)),
          expected: "demands such as a=b, a!=b, a or !a, separated by commas")
      }
      let isNegated = first.hasSuffix("!") || first.hasPrefix("!")
      let key = String(first.filter { $0 != "!" })
      switch (words.count, isNegated) {
      case (2, false): selector.requirements.append(.isOneOf(key, [words[1]]))
      case (2, true): selector.requirements.append(.isNoneOf(key, [words[1]]))
      case (_, false): selector.requirements.append(.exists(key))
      case (_, true): selector.requirements.append(.isAbsent(key))
      }
    }
    return selector
  }
}
