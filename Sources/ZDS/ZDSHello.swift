import IstioAPI
import SwiftProtobuf

/// The first message of a connection, from ztunnel. No version is ever refused (zds.md §2).
public struct ZDSHello: Equatable, Sendable {
  /// The number of the version: 1 is the only one there is.
  public let version: Int

  public init(version: Int = 1) {
    self.version = version
  }

  /// One packet.
  public func encoded() -> [UInt8] {
    let message = Istio_Workload_Zds_ZdsHello.with { $0.version = .init(rawValue: version) ?? .v1 }
    // Encoding can only fail for missing required fields, of which proto3 has none.
    return (try? message.serializedBytes()) ?? []
  }

  /// Reads one packet. Throws ``ZDSError/malformed(message:)``.
  public init(decoding bytes: [UInt8]) throws(ZDSError) {
    guard let message = try? Istio_Workload_Zds_ZdsHello(serializedBytes: bytes) else {
      throw .malformed(message: "ZdsHello")
    }
    version = message.version.rawValue
  }
}
