import IstioAPI
import SwiftProtobuf

/// Our extension of ZDS: sockets in which something waits (listeners, bound UDP sockets, mailboxes) outlive the ztunnel that
/// made them, and one of several ztunnels is told to take new connections.
///
/// It travels in a field of hello, requests and responses that other implementations skip. Ztunnel's hello shows that it
/// knows the extension; every request of an agent that knows it too has the field. Towards a peer that has not shown it,
/// every packet is what zds.md says, byte for byte, with exactly the descriptors it allows.
///
/// From then on the acknowledgement of an add carries copies of the pod's sockets, which the agent keeps, and an
/// add carries those that are kept for the pod, after its network namespace. They are the very sockets: what waits in
/// their queues waits for whoever adopts them.
public struct Handover: Equatable, Sendable {
  /// Whether a ztunnel is to take new connections.
  public enum Duty: Sendable {
    case accept
    /// Another one serves: leave new connections to it, and see those that are open to their end.
    case rest
  }

  /// Sockets that come with the packet, besides the namespace.
  public var sockets: Int
  public var duty: Duty?

  public init(sockets: Int = 0, duty: Duty? = nil) {
    self.sockets = sockets
    self.duty = duty
  }

  /// Sockets of one pod: four to nine, and as many again for each restart under another configuration.
  public static let mostSockets = 32

  var message: Istio_Workload_Zds_Handover {
    .with {
      $0.sockets = UInt32(clamping: sockets)
      $0.duty = duty.map { $0 == .accept ? .accept : .rest } ?? .unchanged
    }
  }

  /// Throws ``ZDSError/unexpectedDescriptors(count:)`` when more are announced than are ever passed.
  init(_ message: Istio_Workload_Zds_Handover) throws(ZDSError) {
    guard message.sockets <= Self.mostSockets else { throw .unexpectedDescriptors(count: Int(message.sockets)) }
    sockets = Int(message.sockets)
    duty =
      switch message.duty {
      case .accept: .accept
      case .rest: .rest
      case .unchanged, .UNRECOGNIZED: nil
      }
  }
}
