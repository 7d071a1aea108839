import Linux

/// Sockets in which something waits that are kept for one workload while no ztunnel, or the next one, serves it.
struct KeptSockets {
  private struct Socket {
    let descriptor: SharedDescriptor
    let identity: WaitingSocket
  }

  private var sockets: [Socket] = []

  var count: Int { sockets.count }

  /// The sockets of one network namespace.
  func descriptors(in namespace: NamespaceIdentity) -> [SharedDescriptor] {
    sockets.filter { $0.identity.namespace == namespace }.map(\.descriptor)
  }

  /// Keeps a socket, once. False when it is no such socket of this namespace, or there is no room.
  mutating func keep(_ descriptor: SharedDescriptor, in namespace: NamespaceIdentity, hasRoom: Bool) -> Bool {
    guard let identity = try? WaitingSocket(descriptor.raw), identity.namespace == namespace else { return false }
    if sockets.contains(where: { $0.identity.inode == identity.inode }) { return true }
    guard hasRoom, sockets.count < Handover.mostSockets else { return false }
    sockets.append(Socket(descriptor: descriptor, identity: identity))
    return true
  }

  /// Lets go of mailboxes, and of what is in them. Returns how many there were.
  mutating func dropMailboxes() -> Int {
    let before = sockets.count
    sockets.removeAll { $0.identity.kind == .mailbox }
    return before - sockets.count
  }

  /// Lets go of what belongs to other namespaces.
  mutating func keepOnly(_ namespace: NamespaceIdentity) {
    sockets.removeAll { $0.identity.namespace != namespace }
  }
}
