import Linux
import Vocabulary
import ZDS

/// What a listener is for (datapath.md §1).
enum ListenerRole: UInt16, Sendable {
  /// Connections that applications of the pod open.
  case outbound = 15001
  /// Plaintext connections to the pod.
  case passthrough = 15006
  /// HBONE tunnels to the pod.
  case hbone = 15008
  /// DNS queries of the pod over TCP, where the DNS proxy is on.
  case dns = 15053
  /// SOCKS5 clients of the pod, on loopback only.
  case socks = 15080

  /// What every pod is served on, at any address.
  static let everyPod: [ListenerRole] = [.outbound, .passthrough, .hbone]
}

/// One listening socket of a pod, shared by all workers.
struct PodListener: Sendable {
  let role: ListenerRole
  let socket: SharedDescriptor
  /// The socket may accept for, and its connections bind to, foreign addresses: the client's address is preserved.
  let isTransparent: Bool
}

/// A connection that a listener has just given.
struct PodArrival: Sendable {
  let socket: SharedDescriptor
  let peer: SocketAddress
  let role: ListenerRole
  let preservesSource: Bool
}

/// The sockets of a pod that wait for its traffic.
struct PodSockets: Sendable {
  var listeners: [PodListener]
  /// DNS over UDP; empty where the DNS proxy is off.
  var datagrams: [DatagramListener] = []
  /// What an earlier ztunnel leaves to a later one: connections that it carried. This one puts into the first, and takes from
  /// all of them.
  var mailboxes: [Mailbox] = []
  /// The congestion control for connections to the pod's application; nil where its default will do.
  var localCongestionControl: String?

  /// All of them. Mailboxes first: where not all can be kept, what is put into one must not be lost.
  var descriptors: [SharedDescriptor] {
    mailboxes.map(\.descriptor) + listeners.map(\.socket) + datagrams.map(\.socket)
  }
}

/// One UDP socket of a pod, shared by all workers.
struct DatagramListener: Sendable {
  let socket: SharedDescriptor
  let family: IPAddress.Family
}

/// One run of one pod's proxy: what its workers need to know.
///
/// The listeners are not in it: they must close when the last worker stops accepting, while connections, which keep this
/// value, may go on for long.
struct PodProxy: Sendable {
  let id: ProxyID
  let info: WorkloadInfo
  let namespace: NetworkNamespace
}
