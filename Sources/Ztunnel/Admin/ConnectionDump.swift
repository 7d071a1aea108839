import Telemetry
import Vocabulary

extension ConnectionSnapshot {
  /// In the form that `istioctl ztunnel-config connections` reads (observability.md §6.5).
  var dump: JSONValue {
    // An inbound connection is HBONE where its peer has an identity.
    .object([
      "src": .string("\(record.source.address)"),
      "originalDst": .some(original.map { .string("\($0)") } ?? .null),
      "actualDst": .string("\(actual)"),
      "protocol": .string(carriage.rawValue),
    ])
  }

  /// Everything there is to tell, for `/connections`.
  func details(of pod: String) -> JSONValue {
    .object([
      "pod": .string(pod),
      "direction": .string(record.direction.rawValue),
      "source": end(record.source),
      "destination": end(record.destination),
      "service": record.service.map { .string($0) },
      "originalDestination": original.map { .string("\($0)") },
      "actualDestination": .string("\(actual)"),
      "protocol": .string(carriage.rawValue),
      "encrypted": .boolean(plaintext == nil),
      "plaintextReason": plaintext.map { .string($0.rawValue) },
      "state": isEstablished ? "established" : "opening",
      "allowedBy": allowedBy.map { .string($0) },
      "bytesSent": .integer(Int64(clamping: bytesSent)),
      "bytesReceived": .integer(Int64(clamping: bytesReceived)),
      "ageMilliseconds": .integer(
        age.components.seconds * 1000 + age.components.attoseconds / 1_000_000_000_000_000),
    ])
  }

  private func end(_ peer: AccessLogRecord.Peer) -> JSONValue {
    .object([
      "address": .string("\(peer.address)"),
      "workload": peer.workload.map { .string($0) },
      "namespace": peer.namespace.map { .string($0) },
      "identity": peer.identity.map { .string("\($0)") },
      "cluster": peer.cluster.map { .string($0) },
    ])
  }
}
