import Vocabulary

/// What one look into a namespace proved.
public struct NamespaceProof: Equatable, Sendable {
  /// What differs from what is wanted. Empty is the proof that capture is complete.
  public var deviations: [RedirectionDeviation]
  /// The fence is up, completely, in every family the namespace has.
  public var isFenced: Bool
  /// Which of the mesh's ports are listened on by sockets with ztunnel's mark; nil when the kernel would not say.
  public var listeners: Set<UInt16>?
  /// Packets that left the pod although capture should have taken them: connections opened past ztunnel, and answers of
  /// the application to ztunnel that went out instead. Counted since the rules were written. Nil when nobody counts.
  public var escaped: UInt64?
  /// Packets that would have opened a connection past ztunnel and were dropped. Counted since the rules were written. Nil
  /// when nobody counts.
  public var stopped: UInt64?

  /// The ports ztunnel must listen on for a pod to be served (zds.md §12).
  public static let neededListeners: Set<UInt16> = [
    MeshConstants.outboundPort, MeshConstants.inboundPlaintextPort, MeshConstants.hbonePort,
  ]

  /// Ports nobody of the mesh listens on.
  public var missingListeners: [UInt16] {
    guard let listeners else { return [] }
    return Self.neededListeners.subtracting(listeners).sorted()
  }

  public init(
    deviations: [RedirectionDeviation] = [], isFenced: Bool = false, listeners: Set<UInt16>? = Self.neededListeners,
    escaped: UInt64? = nil, stopped: UInt64? = nil
  ) {
    self.deviations = deviations
    self.isFenced = isFenced
    self.listeners = listeners
    self.escaped = escaped
    self.stopped = stopped
  }
}
