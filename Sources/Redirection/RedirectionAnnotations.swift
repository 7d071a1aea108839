/// The pod annotations that change one pod's redirection (redirection.md §2, enrollment.md §1).
public enum RedirectionAnnotation: String, CaseIterable, Sendable {
  case bypassInboundCapture = "ambient.istio.io/bypass-inbound-capture"
  case dnsCapture = "ambient.istio.io/dns-capture"
  case rerouteVirtualInterfaces = "istio.io/reroute-virtual-interfaces"
}

/// An annotation value that was left out. The rest of the pod's settings hold.
public struct IgnoredAnnotation: Equatable, Sendable, CustomStringConvertible {
  public var annotation: RedirectionAnnotation
  /// The part that could not be used, shortened where it is long.
  public var value: String

  public init(annotation: RedirectionAnnotation, value: String) {
    self.annotation = annotation
    self.value = value
  }

  public var description: String {
    let expected =
      annotation == .rerouteVirtualInterfaces ? "no interface can have this name" : "neither true nor false"
    return "\(annotation.rawValue): \"\(value)\" is ignored: \(expected)"
  }
}

extension RedirectionSettings {
  /// These settings with a pod's annotations over them, and the values that could not be used.
  ///
  /// An unusable boolean counts as absent, as in the reference. An unusable interface name is left out instead of making
  /// every rule fail (redirection.md, limit 10); no traffic can come from an interface that cannot exist.
  public func applying(annotations: [String: String]) -> (settings: RedirectionSettings, ignored: [IgnoredAnnotation]) {
    var settings = self
    var ignored: [IgnoredAnnotation] = []
    func ignore(_ annotation: RedirectionAnnotation, _ value: some StringProtocol) {
      ignored.append(IgnoredAnnotation(annotation: annotation, value: String(value.prefix(64))))
    }
    for annotation in RedirectionAnnotation.allCases {
      guard let value = annotations[annotation.rawValue] else { continue }
      switch annotation {
      case .bypassInboundCapture, .dnsCapture:
        guard let choice = Self.boolean(value) else {
          ignore(annotation, value)
          continue
        }
        if annotation == .dnsCapture { settings.dnsCapture = choice } else { settings.bypassInboundCapture = choice }
      case .rerouteVirtualInterfaces:
        var interfaces: [InterfaceName] = []
        for part in value.split(separator: ",") {
          guard let name = Self.trimmed(part) else { continue }
          if let interface = InterfaceName(name) { interfaces.append(interface) } else { ignore(annotation, name) }
        }
        settings.rerouteInterfaces = interfaces
      }
    }
    return (settings, ignored)
  }

  /// The words Go's `ParseBool` takes.
  private static func boolean(_ text: String) -> Bool? {
    switch text {
    case "1", "t", "T", "TRUE", "true", "True": true
    case "0", "f", "F", "FALSE", "false", "False": false
    default: nil
    }
  }

  /// Without white space at either end; nil when nothing is left.
  private static func trimmed(_ text: Substring) -> String? {
    guard let first = text.firstIndex(where: { !$0.isWhitespace }),
      let last = text.lastIndex(where: { !$0.isWhitespace })
    else { return nil }
    return String(text[first...last])
  }
}
