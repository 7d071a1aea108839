/// Numbers the mesh agrees on (redirection.md §1).
enum MeshConstants {
  static let outboundPort: UInt16 = 15001
  static let inboundPlaintextPort: UInt16 = 15006
  static let hbonePort: UInt16 = 15008
  static let dnsCapturePort: UInt16 = 15053
  static let dnsPort: UInt16 = 53

  /// Mark of ztunnel's own sockets.
  static let proxyMark: UInt32 = 0x539
  /// Connection mark of "ztunnel opened this towards the application".
  static let towardsApplicationMark: UInt32 = 0x111
  static let markMask: UInt32 = 0xfff

  /// The zone of ztunnel's own DNS queries.
  static let dnsZone: UInt16 = 1

  /// Policy routing that keeps the application's replies local.
  static let routeTable: UInt32 = 100
  static let rulePriority: UInt32 = 32764
}
