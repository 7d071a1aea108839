import Linux
import Redirection
import Telemetry
import ZDS

/// What is proven about one workload, and since when.
public struct EnrolmentProof: Equatable, Sendable {
  /// One word for it, stable: it is in metrics, in the status and in people's scripts.
  public enum Code: String, Sendable, CaseIterable {
    /// Rules were read back equal, ztunnel listens in the namespace, and has a certificate for it as far as it tells.
    case proven = "PROVEN"
    /// Rules were read back equal, but no ztunnel serves the workload, or the one that does has no certificate for it: its
    /// connections are refused.
    case pending = "PENDING"
    /// Rules could not be proven, so the workload is cut off.
    case fenced = "FENCED"
    /// Rules could not be proven, and there is no fence: it is switched off, or could not be raised.
    case exposed = "EXPOSED"
    /// Its namespace is not there (yet), or was not looked at yet.
    case waiting = "WAITING"
    case leaving = "LEAVING"
    /// On purpose not in the mesh.
    case outside = "OUTSIDE"

    /// Nothing more is to be hoped for.
    public var isAsWanted: Bool { self == .proven || self == .outside }
  }

  public var uid: WorkloadUID
  public var workload: WorkloadInfo
  /// Nil while it is not known.
  public var namespace: NamespaceIdentity?
  public var code: Code
  /// When it became what `code` says.
  public var since: LogTimestamp
  /// When its rules were last read back equal; nil when never.
  public var lastProven: LogTimestamp?
  /// What differs from what is wanted, in words; empty when nothing does.
  public var deviations: [String]
  /// Ports that ztunnel should listen on in the namespace and does not.
  public var missingListeners: [UInt16]
  /// Whether ztunnel holds a valid certificate for the workload. Nil where it does not tell, as Istio's does not.
  public var hasIdentity: Bool?
  /// Packets that left the namespace past ztunnel since this agent looks after it. Nil when nobody counts. Counts that
  /// somebody wiped out between two looks are missing from it.
  public var escapedPackets: UInt64?
  /// Packets that would have opened a connection past ztunnel, out or in, and were dropped. Counted like `escapedPackets`.
  public var stoppedPackets: UInt64?
}

extension EnrolmentProof {
  /// The part of it that a look into the namespace decides. A value: what was found goes in, and when.
  struct Record: Equatable, Sendable {
    /// What a look found.
    enum Finding: Equatable, Sendable {
      case noNamespace
      /// Not, or not wholly, what it should be; the reasons in words.
      case unproven([String], isFenced: Bool)
      /// `isAcknowledged`: ztunnel said that it serves the workload.
      case captured(NamespaceProof, isAcknowledged: Bool)
      case leaving
      case outside
    }

    private(set) var code = Code.waiting
    private(set) var since: LogTimestamp
    private(set) var lastProven: LogTimestamp?
    private(set) var deviations: [String] = []
    private(set) var missingListeners: [UInt16] = []
    private(set) var hasIdentity: Bool?
    private(set) var escapes = EscapeCount()
    private(set) var stops = EscapeCount()

    init(since: LogTimestamp) { self.since = since }

    /// Takes a finding. True when it changed the code.
    @discardableResult
    mutating func take(_ finding: Finding, at now: LogTimestamp) -> Bool {
      deviations = []
      missingListeners = []
      let next: Code
      switch finding {
      case .noNamespace: next = .waiting
      case .leaving: next = .leaving
      case .outside: next = .outside
      case .unproven(let reasons, let isFenced):
        deviations = reasons
        next = isFenced ? .fenced : .exposed
      case .captured(let proof, let isAcknowledged):
        lastProven = now
        missingListeners = proof.missingListeners
        observe(proof)
        next = isAcknowledged && missingListeners.isEmpty && hasIdentity != false ? .proven : .pending
      }
      guard next != code else { return false }
      code = next
      since = now
      return true
    }

    /// What ztunnel says of the workload's certificate. The next finding goes by it.
    mutating func take(identity: Bool?) { hasIdentity = identity }

    /// Takes the counts, also where nothing else was proven.
    mutating func observe(_ proof: NamespaceProof) {
      escapes.observe(proof.escaped)
      stops.observe(proof.stopped)
    }
  }
}
