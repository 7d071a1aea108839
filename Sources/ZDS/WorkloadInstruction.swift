import Linux

/// One request as ztunnel takes it: decoded, its namespace open and proven to be one.
public enum WorkloadInstruction<Namespace: IdentifiedNamespace>: Sendable {
  case add(WorkloadUID, WorkloadInfo, in: Namespace)
  /// An add whose descriptor is no network namespace.
  case addWithoutNamespace(WorkloadUID, NetworkNamespaceError)
  case keep(WorkloadUID)
  case delete(WorkloadUID)
  case snapshotSent
}

/// What ztunnel answers to one instruction.
public enum InstructionAnswer: Equatable, Sendable {
  case acknowledge
  /// Refuse with this reason, and go on.
  case refuse(String)
  /// Refuse, then close the connection and dial again: the two sides no longer agree on what was said.
  case refuseAndClose(ZDSError)
}
