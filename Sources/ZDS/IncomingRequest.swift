import Linux

/// One packet of the agent as ztunnel takes it: what is said, joined with the descriptors that came with it
/// (zds.md §3).
struct IncomingRequest {
  enum Content {
    /// With the listening sockets that the agent keeps for the workload.
    case instruction(WorkloadInstruction<NetworkNamespace>, sockets: [SharedDescriptor])
    case duty(Handover.Duty)
    /// Does it hold a certificate for this workload?
    case identity(WorkloadUID)
  }

  let content: Content
  /// The agent knows ``Handover``.
  let agentKeepsSockets: Bool

  /// Throws ``ZDSError``: undecodable, or with other descriptors than belong to it. What is not taken is closed.
  init(_ bytes: [UInt8], _ descriptors: [SharedDescriptor]) throws(ZDSError) {
    let (request, handover) = try ZDSRequest.decode(bytes)
    agentKeepsSockets = handover != nil
    guard case .add(let uid, let info) = request else {
      guard descriptors.isEmpty else { throw .unexpectedDescriptors(count: descriptors.count) }
      switch request {
      case .add: throw .descriptorMissing
      case .keep(let uid): content = .instruction(.keep(uid), sockets: [])
      case .delete(let uid): content = .instruction(.delete(uid), sockets: [])
      case .snapshotSent: content = .instruction(.snapshotSent, sockets: [])
      case .duty(let duty): content = .duty(duty)
      case .identity(let uid): content = .identity(uid)
      }
      return
    }
    guard let passed = descriptors.first else { throw .descriptorMissing }
    guard descriptors.count == 1 + (handover?.sockets ?? 0) else {
      throw .unexpectedDescriptors(count: descriptors.count)
    }
    do {
      let namespace = try NetworkNamespace(sharing: passed, subject: "the descriptor of \(info)")
      content = .instruction(.add(uid, info, in: namespace), sockets: Array(descriptors.dropFirst()))
    } catch {
      content = .instruction(.addWithoutNamespace(uid, error), sockets: [])
    }
  }
}
