import IstioAPI
import SwiftProtobuf

/// What a ztunnel says about itself when it subscribes (xds.md §2.1).
public struct NodeDescription: Hashable, Sendable {
  /// `ztunnel~<ip>~<pod>.<namespace>~<namespace>.svc.cluster.local`.
  public let id: String
  /// By key, in Istio's upper-case names; values are strings, or whatever JSON can say.
  let metadata: Google_Protobuf_Struct
  /// Variables whose value is no JSON and was left out.
  public let skippedVariables: [String]

  /// Reads the variables of xds.md §2.1.
  public init(environment: [String: String]) {
    let pod = environment["POD_NAME"] ?? ""
    let namespace = environment["POD_NAMESPACE"] ?? ""
    let ip = environment["INSTANCE_IP"].flatMap { $0.isEmpty ? nil : $0 } ?? "1.1.1.1"
    id = "ztunnel~\(ip)~\(pod).\(namespace)~\(namespace).svc.cluster.local"
    var fields: [String: Google_Protobuf_Value] = [
      "NAME": .init(stringValue: pod), "NAMESPACE": .init(stringValue: namespace),
      "INSTANCE_IPS": .init(stringValue: ip), "NODE_NAME": .init(stringValue: environment["NODE_NAME"] ?? ""),
    ]
    for (name, value) in environment where name.hasPrefix("ISTIO_META_") {
      fields[String(name.dropFirst("ISTIO_META_".count))] = .init(stringValue: value)
    }
    var skipped: [String] = []
    for (name, value) in environment where name.hasPrefix("ISTIO_METAJSON_") {
      if let parsed = try? Google_Protobuf_Value(jsonString: value) {
        fields[String(name.dropFirst("ISTIO_METAJSON_".count))] = parsed
      } else {
        skipped.append(name)
      }
    }
    metadata = Google_Protobuf_Struct(fields: fields)
    skippedVariables = skipped.sorted()
  }

  var message: Envoy_Service_Discovery_V3_Node {
    var node = Envoy_Service_Discovery_V3_Node()
    node.id = id
    node.metadata = metadata
    return node
  }
}
