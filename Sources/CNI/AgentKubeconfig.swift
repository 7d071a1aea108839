import JSON
import Vocabulary

/// The kubeconfig that the agent leaves on the node, with its own credentials (enrollment.md §9.5).
///
/// JSON, which is YAML too.
public struct AgentKubeconfig: Sendable {
  public var host: String
  public var port: String
  public var scheme: String
  /// The API server's certificate authorities in PEM; nil trusts every server, where that was asked for.
  public var authorities: [UInt8]?
  public var token: String

  public init(host: String, port: String, scheme: String = "https", authorities: [UInt8]?, token: String) {
    self.host = host
    self.port = port
    self.scheme = scheme
    self.authorities = authorities
    self.token = token
  }

  public var bytes: [UInt8] {
    let name = host.contains(":") && !host.hasPrefix("[") ? "[\(host)]" : host
    var cluster = JSONObject([.init(key: "server", value: .string("\(scheme)://\(name):\(port)"))])
    if let authorities {
      cluster["certificate-authority-data"] = .string(Base64Text.encode(authorities))
    } else {
      cluster["insecure-skip-tls-verify"] = true
    }
    let context = "istio-cni-context"
    let value: JSONValue = [
      "apiVersion": "v1",
      "kind": "Config",
      "clusters": [["name": "local", "cluster": .object(cluster)]],
      "users": [["name": "istio-cni", "user": ["token": .string(token)]]],
      "contexts": [["name": .string(context), "context": ["cluster": "local", "user": "istio-cni"]]],
      "current-context": .string(context),
    ]
    return value.indentedBytes
  }
}

enum Base64Text {
  private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

  /// RFC 4648 §4, with padding.
  static func encode(_ bytes: [UInt8]) -> String {
    var text: [UInt8] = []
    var rest = bytes[...]
    while !rest.isEmpty {
      let group = Array(rest.prefix(3))
      rest = rest.dropFirst(3)
      let padded = group + [UInt8](repeating: 0, count: 3 - group.count)
      let bits = padded.reduce(0) { $0 << 8 | Int($1) }
      for place in 0..<4 {
        text.append(place <= group.count ? alphabet[bits >> (18 - 6 * place) & 63] : UInt8(ascii: "="))
      }
    }
    return String(decoding: text, as: UTF8.self)
  }
}
