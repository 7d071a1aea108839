import Linux
import Logging

/// A socket that an earlier ztunnel has left behind, and what the kernel says of it.
struct EscrowedSocket: Sendable {
  let descriptor: SharedDescriptor
  let identity: WaitingSocket
}

/// Sockets in which something waits, between two ztunnels: what the one before left behind waits here for its pod to be
/// announced, and what this one opens is left with the service manager for the next one. Belongs to the control loop.
///
/// Sockets come from the service manager's descriptor store at the start, and from the node agent with each pod. Often
/// both keep copies of the same ones. Neither is believed: the kernel says which namespace a socket belongs to.
final class SocketEscrow {
  /// What the names of stored descriptors begin with; the rest is the inode of the pod's network namespace, so that one
  /// message removes all of a pod's.
  private static let namePrefix = "ambient-pod-"

  private let storeLimit: Int
  private let logger: Logger
  private var waiting: [NamespaceIdentity: [EscrowedSocket]] = [:]
  /// Names in the store, with the number of descriptors; nil where an earlier ztunnel stored them.
  private var stored: [String: Int?] = [:]
  /// Pods for which the store had no room.
  private(set) var withoutRoom: Set<NamespaceIdentity> = []

  /// `storeLimit` is how many descriptors the service manager keeps; none are given to it where it is zero.
  init(
    _ inherited: [InheritedDescriptor] = [], storeLimit: Int = ServiceNotifier.storeLimit, logger: Logger
  ) {
    self.storeLimit = storeLimit
    self.logger = logger
    for one in inherited where Self.isName(one.name) {
      stored.updateValue(nil, forKey: one.name)
      deposit(one.descriptor)
    }
    if !waiting.isEmpty {
      logger.info(
        "sockets of an earlier run wait for their pods",
        metadata: ["pods": "\(waiting.count)", "sockets": "\(waiting.values.reduce(0) { $0 + $1.count })"])
    }
  }

  /// Keeps a socket for its pod. A socket in which nothing can wait, or that is here already, is closed.
  func deposit(_ descriptor: SharedDescriptor) {
    guard let identity = try? WaitingSocket(descriptor.raw) else { return }
    let known = waiting[identity.namespace, default: []]
    guard !known.contains(where: { $0.identity.inode == identity.inode }) else { return }
    waiting[identity.namespace] = known + [EscrowedSocket(descriptor: descriptor, identity: identity)]
  }

  /// Gives away what waits for a pod.
  func take(_ namespace: NamespaceIdentity) -> [EscrowedSocket] {
    waiting.removeValue(forKey: namespace) ?? []
  }

  /// The namespaces for which sockets wait.
  var namespaces: Set<NamespaceIdentity> { Set(waiting.keys) }

  // MARK: The service manager's store

  /// Leaves copies of a pod's sockets with the service manager.
  func store(_ sockets: PodSockets, of namespace: NamespaceIdentity, replacing: Bool) {
    guard storeLimit > 0 else { return }
    let (name, descriptors) = (Self.name(namespace), sockets.descriptors)
    if replacing { removeStored(name) }
    let used = stored.values.reduce(0) { $0 + ($1 ?? 0) }
    guard used + descriptors.count <= storeLimit else {
      withoutRoom.insert(namespace)
      logger.warning(
        "the descriptor store is full: new connections to this pod are refused while no ztunnel runs",
        metadata: ["netns": "\(namespace)", "limit": "\(storeLimit)", "check": "FileDescriptorStoreMax= of the unit"])
      return
    }
    guard ServiceNotifier.store(descriptors, name: name) else {
      logger.warning("sockets cannot be left with the service manager", metadata: ["netns": "\(namespace)"])
      return
    }
    stored.updateValue(descriptors.count, forKey: name)
    withoutRoom.remove(namespace)
  }

  /// Leaves copies once more: the service manager may not have listened. It keeps none twice.
  func storeAgain(_ sockets: PodSockets, of namespace: NamespaceIdentity) {
    guard isStored(namespace) else { return }
    _ = ServiceNotifier.store(sockets.descriptors, name: Self.name(namespace))
  }

  /// Whether the service manager keeps this pod's sockets.
  func isStored(_ namespace: NamespaceIdentity) -> Bool {
    (stored[Self.name(namespace)] ?? nil) != nil
  }

  /// The pod is gone: nobody is to keep its sockets.
  func forget(_ namespace: NamespaceIdentity) {
    waiting[namespace] = nil
    withoutRoom.remove(namespace)
    let name = Self.name(namespace)
    if stored.keys.contains(name) { removeStored(name) }
  }

  /// Lets go of whatever waits for pods that are not there any more.
  func discard(except wanted: Set<NamespaceIdentity>) {
    withoutRoom.formIntersection(wanted)
    let names = Set(wanted.map(Self.name))
    let gone = waiting.keys.filter { !wanted.contains($0) }
    for namespace in gone { waiting[namespace] = nil }
    for name in stored.keys.filter({ !names.contains($0) }) { removeStored(name) }
    if !gone.isEmpty {
      logger.info("sockets of pods that are gone are closed", metadata: ["pods": "\(gone.count)"])
    }
  }

  private func removeStored(_ name: String) {
    stored[name] = nil
    ServiceNotifier.removeStored(name: name)
  }

  /// Whether a stored descriptor of this name is a pod's socket.
  static func isName(_ name: String) -> Bool { name.hasPrefix(namePrefix) }

  private static func name(_ namespace: NamespaceIdentity) -> String { "\(namePrefix)\(namespace.inode)" }
}
