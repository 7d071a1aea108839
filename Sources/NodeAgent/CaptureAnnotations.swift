/// What a workload's annotations wish of redirection (redirection.md §2).
public struct CaptureAnnotations: Equatable, Sendable {
  public static let bypassInboundCaptureKey = "ambient.istio.io/bypass-inbound-capture"
  public static let dnsCaptureKey = "ambient.istio.io/dns-capture"
  public static let rerouteInterfacesKey = "istio.io/reroute-virtual-interfaces"

  public var bypassInboundCapture: Bool?
  /// Nil: as the node's default says.
  public var dnsCapture: Bool?
  public var rerouteInterfaces: [String] = []

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
        let name = part.trimmingSpaces()
        guard !name.isEmpty else { continue }
        guard Self.isInterfaceName(name) else { throw .notAnInterface(name) }
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

  /// What the kernel takes for an interface (`dev_valid_name`).
  private static func isInterfaceName(_ text: String) -> Bool {
    text.utf8.count < 16 && text != "." && text != ".."
      && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") }
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
