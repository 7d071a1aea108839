import Glibc

/// A queue of messages in the kernel, with the descriptors that come with them: a datagram socket that is connected to
/// itself. It outlives the process that filled it for as long as anybody has its descriptor, and whoever has it can put and
/// take; nobody else can. When the last descriptor goes, so does everything in it.
///
/// Calls never block. From any thread.
public struct Mailbox: Sendable {
  public let descriptor: SharedDescriptor

  /// Bytes of a message.
  public static let longestMessage = 4096
  /// Descriptors of a message.
  public static let mostDescriptors = 4
  /// For some 26,000 short messages. Only what is in it takes memory.
  private static let capacity: CInt = 16 << 20

  public struct Message: Sendable {
    public var bytes: [UInt8]
    public var descriptors: [SharedDescriptor]

    public init(bytes: [UInt8], descriptors: [SharedDescriptor]) {
      self.bytes = bytes
      self.descriptors = descriptors
    }
  }

  /// A new one, which belongs to the calling thread's network namespace. Throws ``SystemError``.
  public init() throws(SystemError) {
    let kind = CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
    let socket = Descriptor(owning: try system("socket", "mailbox") { Glibc.socket(AF_UNIX, kind, 0) })
    let raw = socket.raw
    // An address of nothing but the family has the kernel choose a free one.
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    try system("bind", "mailbox") {
      Self.withKernelForm(&address) { bind(raw, $0, socklen_t(MemoryLayout<sa_family_t>.size)) }
    }
    var length = socklen_t(MemoryLayout<sockaddr_un>.size)
    try system("getsockname", "mailbox") { Self.withKernelForm(&address) { getsockname(raw, $0, &length) } }
    try system("connect", "mailbox") { Self.withKernelForm(&address) { connect(raw, $0, length) } }
    // Without the privilege it holds less.
    var capacity = Self.capacity
    _ = setsockopt(raw, SOL_SOCKET, SO_SNDBUFFORCE, &capacity, socklen_t(MemoryLayout<CInt>.size))
    descriptor = SharedDescriptor(socket)
    // Before it was connected, anybody in its namespace could have sent something.
    var isEmpty = false
    while !isEmpty {
      do throws(SystemError) { isEmpty = try take() == nil } catch  where error.number == EMSGSIZE {}
    }
  }

  /// One that somebody kept. It is believed: ``WaitingSocket`` tells what a descriptor is.
  public init(adopting descriptor: SharedDescriptor) { self.descriptor = descriptor }

  /// Puts a message in, at most ``longestMessage`` bytes and ``mostDescriptors`` descriptors; the caller keeps its own copies
  /// of them. Throws ``SystemError``: `EAGAIN` when it is full, `E2BIG`.
  public func put(_ bytes: [UInt8], passing descriptors: [SharedDescriptor]) throws(SystemError) {
    guard bytes.count <= Self.longestMessage, descriptors.count <= Self.mostDescriptors else {
      throw SystemError("sendmsg", E2BIG, subject: "mailbox")
    }
    try DescriptorPassing.send(descriptor.raw, bytes, passing: descriptors, subject: "mailbox")
  }

  /// Takes the oldest message out; nil when there is none. It needs room for ``mostDescriptors`` descriptors. Throws
  /// ``SystemError``: `EMSGSIZE` where the message is too long or has descriptors for which there was no room; it is out all the
  /// same, and what came with it closed.
  public func take() throws(SystemError) -> Message? {
    let received = try DescriptorPassing.receive(
      descriptor.raw, bytesAtMost: Self.longestMessage, descriptorsAtMost: Self.mostDescriptors, subject: "mailbox")
    guard let received else { return nil }
    guard !received.isTruncated, !received.lacksDescriptors, received.descriptorCount <= Self.mostDescriptors else {
      throw SystemError("recvmsg", EMSGSIZE, subject: "mailbox")
    }
    return Message(bytes: received.bytes, descriptors: received.descriptors)
  }

  private static func withKernelForm<Result>(
    _ address: inout sockaddr_un, _ body: (UnsafeMutablePointer<sockaddr>) -> Result
  ) -> Result {
    withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0) }
    }
  }

  /// Whether a UNIX datagram socket is connected to itself.
  static func isMailbox(_ raw: CInt) -> Bool {
    func name(_ call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> CInt) -> [UInt8]? {
      var address = sockaddr_un()
      var length = socklen_t(MemoryLayout<sockaddr_un>.size)
      guard withKernelForm(&address, { call($0, &length) }) == 0 else { return nil }
      // A socket without a name has nothing but the family.
      guard length > MemoryLayout<sa_family_t>.size else { return nil }
      return withUnsafeBytes(of: &address) { Array($0.prefix(Int(length))) }
    }
    guard let own = name({ getsockname(raw, $0, $1) }) else { return false }
    return own == name { getpeername(raw, $0, $1) }
  }
}
