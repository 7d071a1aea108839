import GRPC
import Synchronization

/// How the conversation with the control plane goes (observability.md §4). A value; see ``DeltaClient/statistics``.
public struct XDSStatistics: Equatable, Sendable {
  /// Why a stream ended, by the names of `istio_xds_connection_terminations_total` (xds.md §4).
  public enum Termination: String, Hashable, Sendable, CaseIterable {
    /// It was not opened.
    case connectionError = "ConnectionError"
    /// The server, or what lies between, ended it for a reason that a new stream does away with.
    case reconnect = "Reconnect"
    case error = "Error"
    /// The server ended it in order.
    case complete = "Complete"

    init(_ status: GRPCStatus, wasOpen: Bool) {
      self =
        switch status.status {
        case .ok: .complete
        case _ where !wasOpen: .connectionError
        case .unknown, .cancelled, .deadlineExceeded, .unavailable: .reconnect
        default: .error
        }
    }
  }

  /// Responses of one type.
  public struct Messages: Equatable, Sendable {
    public var count: UInt64 = 0
    /// Bytes of the resources' content, without what is around it.
    public var bytes: UInt64 = 0
  }

  public var terminations: [Termination: UInt64] = [:]
  /// Types that were not subscribed to have no entry.
  public var messages: [ResourceType: Messages] = [:]
  /// Responses in which something was refused.
  public var rejectedResponses: UInt64 = 0
  /// Resources that were not taken.
  public var rejectedResources: [ResourceType: UInt64] = [:]
  /// Resources that are held.
  public var resources: [ResourceType: Int] = [:]
  /// When the stream of now had its first response; nil where there is none. Its age is how long we are connected.
  public var connectedSince: ContinuousClock.Instant?
  /// When the latest response was answered, be it with refusals: what is in force is at least as new.
  public var lastAnswer: ContinuousClock.Instant?
  /// When the latest response was refused in part, and why.
  public var lastRejection: (time: ContinuousClock.Instant, reasons: String)? {
    rejectionTime.map { ($0, rejectionReasons) }
  }

  var rejectionTime: ContinuousClock.Instant?
  var rejectionReasons = ""

  public init() {}
}

/// Statistics that one thread keeps and all may read.
public final class XDSStatisticsRecorder: Sendable {
  private let statistics = Mutex(XDSStatistics())

  public init() {}

  /// As of now. From any thread.
  public var current: XDSStatistics { statistics.withLock { $0 } }

  func update(_ change: (inout XDSStatistics) -> Void) { statistics.withLock { change(&$0) } }
}
