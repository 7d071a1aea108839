import CLinux
import Glibc
import Vocabulary

/// What makes two descriptors the same namespace: device and inode of the nsfs file (zds.md F11).
public struct NamespaceIdentity: Hashable, Sendable, CustomStringConvertible {
  public let device: UInt64
  public let inode: UInt64

  public init(device: UInt64, inode: UInt64) {
    self.device = device
    self.inode = inode
  }

  /// The namespace that a socket belongs to, wherever its owner is. Throws ``SystemError``, among others for want of
  /// CAP_NET_ADMIN there.
  public init(ofSocket raw: CInt) throws(SystemError) {
    let place = Descriptor(owning: try system("ioctl", "SIOCGSKNS") { ambient_namespace_of_socket(raw) })
    let number = place.raw
    var status = stat()
    try system("fstat", "network namespace of a socket") { fstat(number, &status) }
    self.init(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
  }

  /// `net:[<inode>]`, the form `readlink /proc/self/ns/net` shows.
  public var description: String { "net:[\(inode)]" }
}

/// Why a namespace could not be used.
public enum NetworkNamespaceError: CodedError, Equatable {
  case notFound(path: String)
  case notANetworkNamespace(subject: String)
  case notPermitted(subject: String)
  case system(SystemError)

  public var code: String {
    switch self {
    case .notFound: "NETNS_NOT_FOUND"
    case .notANetworkNamespace: "NETNS_WRONG_TYPE"
    case .notPermitted: "NETNS_NOT_PERMITTED"
    case .system(let error): error.code
    }
  }

  public var summary: String {
    switch self {
    case .notFound(let path): "no network namespace at \(path)"
    case .notANetworkNamespace(let subject): "\(subject) is not a network namespace"
    case .notPermitted(let subject): "entering \(subject) is not permitted"
    case .system(let error): error.summary
    }
  }

  public var remedy: String? {
    switch self {
    case .notFound: "check that the pod still runs"
    case .notANetworkNamespace: "give a path such as /run/netns/NAME or /proc/PID/ns/net"
    case .notPermitted: "run as root with CAP_SYS_ADMIN in the initial user namespace"
    case .system: nil
    }
  }
}

/// An open network namespace. Holding one keeps the namespace alive.
public final class NetworkNamespace: Sendable {
  public let descriptor: SharedDescriptor
  public let identity: NamespaceIdentity

  /// The namespace this process was started in. Touch it once before any thread enters another one.
  public static let home: NetworkNamespace = {
    do { return try NetworkNamespace(path: "/proc/self/ns/net") } catch {
      fatalError("cannot open the process's own network namespace: \(error)")
    }
  }()

  /// Opens a namespace by path: `/run/netns/web`, `/proc/123/ns/net`. Throws ``NetworkNamespaceError``.
  public convenience init(path: String) throws(NetworkNamespaceError) {
    let descriptor: Descriptor
    do { descriptor = try Descriptor.open(path, O_RDONLY | O_NONBLOCK) } catch {
      throw error.number == ENOENT || error.number == ENOTDIR ? .notFound(path: path) : .system(error)
    }
    try self.init(adopting: descriptor, subject: path)
  }

  /// Takes over a descriptor and proves that it is a network namespace (zds.md F8). Throws ``NetworkNamespaceError``.
  public convenience init(adopting descriptor: consuming Descriptor, subject: String = "the descriptor")
    throws(NetworkNamespaceError)
  {
    try self.init(sharing: SharedDescriptor(descriptor), subject: subject)
  }

  /// The same for a descriptor that has other owners too. Throws ``NetworkNamespaceError``.
  public init(sharing descriptor: SharedDescriptor, subject: String = "the descriptor") throws(NetworkNamespaceError) {
    let raw = descriptor.raw
    var status = stat()
    do { try system("fstat", subject) { fstat(raw, &status) } } catch { throw .system(error) }
    // ENOTTY comes from every file that is no namespace, so it proves the opposite; kernels older than 4.11, which
    // answer it for namespaces too, are older than everything else this project needs.
    guard ambient_is_network_namespace(raw) == 1 else { throw .notANetworkNamespace(subject: subject) }
    identity = NamespaceIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
    self.descriptor = descriptor
  }

  /// Runs `body` with the calling thread inside this namespace and always comes back.
  ///
  /// Synchronous on purpose: nothing may suspend inside. Not reentrant: `body` must not enter another namespace.
  /// If the thread cannot come back the process aborts, because a worker left in a pod's namespace would open
  /// other pods' sockets there. Rethrows what `body` throws; throws ``NetworkNamespaceError`` if entering fails.
  public func enter<Result: ~Copyable>(_ body: () throws -> Result) throws -> Result {
    let home = Self.home
    if identity == home.identity { return try body() }
    guard ambient_setns_net(descriptor.raw) == 0 else {
      throw errno == EPERM
        ? NetworkNamespaceError.notPermitted(subject: "\(identity)")
        : .system(SystemError("setns", errno, subject: "\(identity)"))
    }
    defer {
      if ambient_setns_net(home.descriptor.raw) != 0 {
        fatalError("cannot return from network namespace \(identity): errno \(errno)")
      }
    }
    return try body()
  }
}
