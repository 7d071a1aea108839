import Glibc
import Linux
import Vocabulary

/// Which part of the kernel a netlink socket talks to: `NETLINK_*`.
enum NetlinkBus: CInt, Sendable {
  case route = 0
  case socketDiagnosis = 4
  case netfilter = 12
}

/// A netlink socket of the network namespace it was opened in. Used by one thread. Closed when the value ends.
struct NetlinkSession: ~Copyable {
  /// More than the kernel puts into one datagram of a dump.
  private static let datagramCapacity = 65536
  /// A namespace with more than this many routes, sets or rules is refused rather than read forever.
  private static let maximumMessages = 500_000
  private static let dumpAttempts = 5
  private static let answerTimeoutSeconds = 5

  private let descriptor: Descriptor
  private var sequence: UInt32 = 0

  /// Throws ``RedirectionError/netlinkFailed(_:)``.
  init(_ bus: NetlinkBus = .route) throws(RedirectionError) {
    do { descriptor = try Self.open(bus) } catch { throw .netlinkFailed(error) }
  }

  private static func open(_ bus: NetlinkBus) throws(SystemError) -> Descriptor {
    let descriptor = Descriptor(
      owning: try system("socket", "netlink") {
        socket(AF_NETLINK, CInt(SOCK_RAW.rawValue) | CInt(SOCK_CLOEXEC.rawValue), bus.rawValue)
      })
    let raw = descriptor.raw
    var limit = timeval(tv_sec: answerTimeoutSeconds, tv_usec: 0)
    try system("setsockopt", "netlink") {
      setsockopt(raw, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    }
    return descriptor
  }

  /// Sends a change and waits for the kernel's verdict. Gives the error number, 0 for success. Throws
  /// ``RedirectionError`` when there is no verdict.
  mutating func change(_ kind: UInt16, flags: UInt16, _ payload: [UInt8]) throws(RedirectionError) -> CInt {
    try ask(kind, flags: flags, payload).verdict
  }

  /// Sends a request and collects what the kernel answers up to its verdict. Throws ``RedirectionError`` when there is no
  /// verdict.
  mutating func ask(
    _ kind: UInt16, flags: UInt16 = 0, _ payload: [UInt8]
  ) throws(RedirectionError) -> (verdict: CInt, answers: [NetlinkMessage]) {
    try send(kind, flags | NetlinkMessage.Flag.request | NetlinkMessage.Flag.acknowledge, payload)
    var answers: [NetlinkMessage] = []
    while true {
      for message in try receive() where message.sequence == sequence {
        if message.kind == NetlinkMessage.Kind.error { return (try verdict(message), answers) }
        answers.append(message)
      }
      guard answers.count <= Self.maximumMessages else { throw .netlinkMalformed(reason: "too many answers") }
    }
  }

  /// Sends a transaction: all of it happens or nothing does. Gives the first error number, 0 for success. Throws
  /// ``RedirectionError`` when there is no verdict.
  mutating func transact(
    _ changes: [NetfilterMessage], in subsystem: NetfilterMessage.Subsystem
  ) throws(RedirectionError) -> CInt {
    let first = sequence + 1
    var bytes: [UInt8] = []
    for message in NetfilterMessage.batch(changes, in: subsystem) {
      sequence += 1
      var message = message
      message.sequence = sequence
      bytes += message.bytes
    }
    try send(bytes)
    // The begin and the end of it are not acknowledged.
    var waiting = Set(first + 1..<sequence)
    while !waiting.isEmpty {
      for message in try receive() where message.kind == NetlinkMessage.Kind.error && message.sequence >= first {
        let number = try verdict(message)
        if number != 0 { return number }
        waiting.remove(message.sequence)
      }
    }
    return 0
  }

  /// All objects of a kind. Reads again when the list changed meanwhile. Throws ``RedirectionError``.
  mutating func dump(_ kind: UInt16, _ payload: [UInt8]) throws(RedirectionError) -> [NetlinkMessage] {
    for _ in 0..<Self.dumpAttempts {
      if let messages = try dumpOnce(kind, payload) { return messages }
    }
    throw .netlinkFailed(SystemError("netlink dump", EAGAIN))
  }

  private mutating func dumpOnce(_ kind: UInt16, _ payload: [UInt8]) throws(RedirectionError) -> [NetlinkMessage]? {
    try send(kind, NetlinkMessage.Flag.request | NetlinkMessage.Flag.dump, payload)
    var messages: [NetlinkMessage] = []
    var interrupted = false
    while true {
      for message in try receive() where message.sequence == sequence {
        interrupted = interrupted || message.flags & NetlinkMessage.Flag.dumpInterrupted != 0
        switch message.kind {
        case NetlinkMessage.Kind.done: return interrupted ? nil : messages
        case NetlinkMessage.Kind.error:
          let number = try verdict(message)
          throw .netlinkFailed(SystemError("netlink dump", number))
        default: messages.append(message)
        }
        guard messages.count <= Self.maximumMessages else { throw .netlinkMalformed(reason: "too many objects") }
      }
    }
  }

  /// `nlmsgerr` begins with the negative error number. Sets have numbers of their own, past the system's.
  private func verdict(_ message: NetlinkMessage) throws(RedirectionError) -> CInt {
    guard let number = message.payload.number(CInt.self, at: 0), number <= 0, number > -8192 else {
      throw .netlinkMalformed(reason: "an answer without an error number")
    }
    return -number
  }

  private mutating func send(_ kind: UInt16, _ flags: UInt16, _ payload: [UInt8]) throws(RedirectionError) {
    sequence += 1
    try send(NetlinkMessage(kind: kind, flags: flags, sequence: sequence, payload: payload).bytes)
  }

  private func send(_ bytes: [UInt8]) throws(RedirectionError) {
    let raw = descriptor.raw
    do {
      // Without an address a netlink datagram goes to the kernel.
      try system("send", "netlink") { Glibc.send(raw, bytes, bytes.count, 0) }
    } catch { throw .netlinkFailed(error) }
  }

  private func receive() throws(RedirectionError) -> [NetlinkMessage] {
    let raw = descriptor.raw
    var buffer = [UInt8](repeating: 0, count: Self.datagramCapacity)
    // sockaddr_nl: family, padding, port number, groups.
    var sender: (UInt16, UInt16, UInt32, UInt32) = (0, 0, 0, 0)
    var size = socklen_t(MemoryLayout.size(ofValue: sender))
    let count: Int
    do {
      count = try system("recv", "netlink") {
        withUnsafeMutablePointer(to: &sender) { pointer in
          pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            recvfrom(raw, &buffer, Self.datagramCapacity, CInt(MSG_TRUNC), $0, &size)
          }
        }
      }
    } catch { throw .netlinkFailed(error) }
    guard count <= Self.datagramCapacity else { throw .netlinkMalformed(reason: "a datagram of \(count) bytes") }
    // Only the kernel has port number 0.
    guard sender.2 == 0 else { return [] }
    guard let messages = NetlinkMessage.parse(Array(buffer.prefix(count))) else {
      throw .netlinkMalformed(reason: "a message longer than its datagram")
    }
    return messages
  }
}
