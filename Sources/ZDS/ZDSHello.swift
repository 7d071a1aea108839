import IstioAPI
import SwiftProtobuf

/// The first message of a connection, from ztunnel. No version is ever refused (zds.md §2).
public struct ZDSHello: Equatable, Sendable {
  /// The number of the version: 1 is the only one there is.
  public let version: Int
  /// Of a ztunnel that knows ``Handover``.
  public let succession: Succession?

  /// Which of several ztunnels succeeds the others.
  public struct Succession: Equatable, Sendable {
    /// Milliseconds between the boot of the machine and the start of the process.
    public let started: UInt64
    /// It was told to leave new connections to another one.
    public let isResting: Bool
    /// It answers ``ZDSRequest/identity(_:)``.
    public let tellsIdentities: Bool

    public init(started: UInt64, isResting: Bool, tellsIdentities: Bool = false) {
      self.started = started
      self.isResting = isResting
      self.tellsIdentities = tellsIdentities
    }
  }

  public init(version: Int = 1, succession: Succession? = nil) {
    self.version = version
    self.succession = succession
  }

  /// One packet.
  public func encoded() -> [UInt8] {
    let message = Istio_Workload_Zds_ZdsHello.with {
      $0.version = .init(rawValue: version) ?? .v1
      if let succession {
        $0.handover = .with {
          $0.started = succession.started
          $0.duty = succession.isResting ? .rest : .unchanged
          $0.identity = succession.tellsIdentities ? .missing : .unsaid
        }
      }
    }
    // Encoding can only fail for missing required fields, of which proto3 has none.
    return (try? message.serializedBytes()) ?? []
  }

  /// Reads one packet. Throws ``ZDSError/malformed(message:)``.
  public init(decoding bytes: [UInt8]) throws(ZDSError) {
    guard let message = try? Istio_Workload_Zds_ZdsHello(serializedBytes: bytes) else {
      throw .malformed(message: "ZdsHello")
    }
    version = message.version.rawValue
    succession =
      message.hasHandover
      ? Succession(
        started: message.handover.started, isResting: message.handover.duty == .rest,
        tellsIdentities: message.handover.identity != .unsaid) : nil
  }
}
