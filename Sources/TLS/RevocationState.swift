import Synchronization

/// The revocation list in force, and what it has refused. Safe to use from any thread.
public final class RevocationState: Sendable {
  /// The side of a connection that refused its peer, in the words of the metrics (observability.md §4).
  public enum Reporter: String, Sendable, CaseIterable { case source, destination }

  private let list = Mutex<RevocationList?>(nil)
  private let source = Atomic<UInt64>(0)
  private let destination = Atomic<UInt64>(0)

  public init(_ list: RevocationList? = nil) { self.list.withLock { $0 = list } }

  /// Nil until a list was read.
  public var current: RevocationList? { list.withLock { $0 } }

  /// From now on new handshakes go by `list`. Connections that are open are their owners' to look at.
  public func replace(with list: RevocationList) { self.list.withLock { $0 = list } }

  /// What the list in force says about a chain.
  public func revoked(in chain: VerifiedChain) -> RevocationList.Revoked? { current?.revoked(in: chain) }

  /// Counts a handshake that was refused or a connection that was closed.
  public func countRejection(_ reporter: Reporter) {
    switch reporter {
    case .source: source.wrappingAdd(1, ordering: .relaxed)
    case .destination: destination.wrappingAdd(1, ordering: .relaxed)
    }
  }

  /// Handshakes refused and connections closed since the start: `istio_crl_policy_rejections_total`.
  public func rejections(_ reporter: Reporter) -> UInt64 {
    switch reporter {
    case .source: source.load(ordering: .relaxed)
    case .destination: destination.load(ordering: .relaxed)
    }
  }
}
