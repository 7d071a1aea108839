/// What Kubernetes' container runtimes say about the pod, in `CNI_ARGS` (enrollment.md §8.2).
public struct CNIArguments: Equatable, Sendable {
  public var podName: String?
  public var podNamespace: String?
  public var podUID: String?

  /// Reads `KEY=VALUE` pairs separated by semicolons.
  ///
  /// A key that is not ours is an error unless `IgnoreUnknown` is true, as for every plugin. Throws
  /// ``CNIError/environment(_:)``.
  public init(_ text: String) throws(CNIError) {
    var ignoresUnknown = false
    var unknown: [String] = []
    for pair in text.split(separator: ";") {
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
      guard parts.count == 2, let key = parts.first, let value = parts.last else {
        throw .environment(["CNI_ARGS: `\(pair)` is no KEY=VALUE"])
      }
      switch key {
      case "K8S_POD_NAME": podName = value.isEmpty ? nil : value
      case "K8S_POD_NAMESPACE": podNamespace = value.isEmpty ? nil : value
      case "K8S_POD_UID": podUID = value.isEmpty ? nil : value
      case "K8S_POD_INFRA_CONTAINER_ID": break
      case "IgnoreUnknown": ignoresUnknown = try Self.boolean(value)
      default: unknown.append(key)
      }
    }
    if !unknown.isEmpty, !ignoresUnknown {
      throw .environment(["CNI_ARGS: unknown \(unknown.joined(separator: ", ")) without IgnoreUnknown=1"])
    }
  }

  private static func boolean(_ text: String) throws(CNIError) -> Bool {
    switch text {
    case "1", "t", "T", "true", "TRUE", "True": true
    case "0", "f", "F", "false", "FALSE", "False": false
    default: throw .environment(["CNI_ARGS: IgnoreUnknown is `\(text)`, not true or false"])
    }
  }
}
