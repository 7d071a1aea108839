import Redirection

/// What a workload's annotations wish of redirection (redirection.md §2).
public struct CaptureAnnotations: Equatable, Sendable {
  public static let bypassInboundCaptureKey = "ambient.istio.io/bypass-inbound-capture"
  public static let dnsCaptureKey = "ambient.istio.io/dns-capture"
  public static let rerouteInterfacesKey = "istio.io/reroute-virtual-interfaces"

  public var bypassInboundCapture: Bool?
  /// Nil: as the node's default says.
  public var dnsCapture: Bool?
  public var rerouteInterfaces: [InterfaceName] = []

  public init() {}

  /// Why an annotation could not be taken.
  public enum Refusal: Error, Equatable {
    case unknown
    case notABoolean(String)
    case notAnInterface(String)
  }

  /// Takes one annotation. Throws ``Refusal``.
  public mutating func set(_ key: String, to value: String) throws(Refusal) {
    switch key {
    case Self.bypassInboundCaptureKey: bypassInboundCapture = try Self.boolean(value)
    case Self.dnsCaptureKey: dnsCapture = try Self.boolean(value)
    case Self.rerouteInterfacesKey:
      rerouteInterfaces = []
      for part in value.split(separator: ",") {
        let text = part.trimmingSpaces()
        guard !text.isEmpty else { continue }
        guard let name = InterfaceName(text) else { throw .notAnInterface(text) }
        rerouteInterfaces.append(name)
      }
    default: throw .unknown
    }
  }

  /// Go's `strconv.ParseBool`, because that is what people's manifests are written for.
  static func boolean(_ text: String) throws(Refusal) -> Bool {
    switch text {
    case "1", "t", "T", "TRUE", "true", "True": true
    case "0", "f", "F", "FALSE", "false", "False": false
    default: throw .notABoolean(text)
    }
  }
}

extension RedirectionSettings {
  /// The node's settings with a workload's own wishes.
  public func adjusted(by annotations: CaptureAnnotations) -> RedirectionSettings {
    var adjusted = self
    adjusted.dnsCapture = annotations.dnsCapture ?? dnsCapture
    adjusted.bypassInboundCapture = annotations.bypassInboundCapture ?? bypassInboundCapture
    adjusted.rerouteInterfaces = annotations.rerouteInterfaces
    return adjusted
  }
}

extension Substring {
  func trimmingSpaces() -> String {
    var rest = self
    while rest.first == " " || rest.first == "\t" { rest.removeFirst() }
    while rest.last == " " || rest.last == "\t" { rest.removeLast() }
    return String(rest)
  }
}
