import CLinux
import Glibc
import Linux
import TestSupport
import Testing

@testable import ZDS

/// A connected pair; the first end is the one under test, the second plays the peer.
private func pair() throws -> (PacketSocket, PacketSocket) {
  var raw: [CInt] = [-1, -1]
  try system("socketpair") { socketpair(AF_UNIX, CInt(SOCK_SEQPACKET.rawValue) | CInt(SOCK_CLOEXEC.rawValue), 0, &raw) }
  let first = try PacketSocket(adopting: Descriptor(owning: raw[0]))
  return (first, try PacketSocket(adopting: Descriptor(owning: raw[1])))
}

/// Two connected sockets: the first one tells when all copies of the second are closed.
private func watchedDescriptor() throws -> (watch: SharedDescriptor, passed: SharedDescriptor) {
  var ends: [CInt] = [-1, -1]
  let kind = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue) | CInt(SOCK_NONBLOCK.rawValue)
  try system("socketpair") { socketpair(AF_UNIX, kind, 0, &ends) }
  return (SharedDescriptor(Descriptor(owning: ends[0])), SharedDescriptor(Descriptor(owning: ends[1])))
}

/// Sends a packet with `count` copies of a descriptor, the way a faulty or hostile peer could. Returns what tells
/// when all copies are closed.
private func sendDescriptors(
  _ count: Int, on socket: PacketSocket, bytes: [UInt8] = [1]
) throws -> SharedDescriptor {
  let (watch, passed) = try watchedDescriptor()
  let raw = passed.raw
  let space = 16 + (count * 4 + 7) / 8 * 8
  var control = [UInt8](repeating: 0, count: space)
  control.withUnsafeMutableBytes {
    $0.storeBytes(of: UInt(16 + count * 4), as: UInt.self)
    $0.storeBytes(of: SOL_SOCKET, toByteOffset: 8, as: CInt.self)
    $0.storeBytes(of: CInt(SCM_RIGHTS), toByteOffset: 12, as: CInt.self)
    for index in 0..<count { $0.storeBytes(of: raw, toByteOffset: 16 + index * 4, as: CInt.self) }
  }
  var bytes = bytes
  let sent = bytes.withUnsafeMutableBytes { bytes in
    control.withUnsafeMutableBytes { control in
      var part = iovec(iov_base: bytes.baseAddress, iov_len: bytes.count)
      return withUnsafeMutablePointer(to: &part) { part in
        var message = msghdr()
        message.msg_iov = part
        message.msg_iovlen = 1
        message.msg_control = control.baseAddress
        message.msg_controllen = control.count
        return sendmsg(socket.descriptor.raw, &message, 0)
      }
    }
  }
  #expect(sent == bytes.count)
  return withExtendedLifetime(passed) { watch }
}

/// Whether no copy is open any more. Waits: children that other tests start at this moment have copies until
/// they execute their program.
private func isClosed(_ watch: SharedDescriptor) -> Bool {
  let raw = watch.raw
  return eventually(within: .seconds(10)) {
    var byte: UInt8 = 0
    return Glibc.read(raw, &byte, 1) == 0
  }
}

@Suite("ZDS packets", .serialized)
struct PacketSocketTests {
  func read(_ socket: PacketSocket) throws -> String {
    switch try socket.receive() {
    case .nothing: "nothing"
    case .endOfFile: "end"
    case .packet(let bytes, let descriptors):
      "\(bytes.count) bytes, \(descriptors.isEmpty ? "no descriptor" : "a descriptor")"
    }
  }

  @Test("a packet is a message: two sends are two receives")
  func boundaries() throws {
    let (here, there) = try pair()
    try there.send([1, 2])
    try there.send([3])
    #expect(try read(here) == "2 bytes, no descriptor")
    #expect(try read(here) == "1 bytes, no descriptor")
    #expect(try read(here) == "nothing")
  }

  @Test("a packet may have 1024 bytes and no more, sent or received")
  func lengths() throws {
    let (here, there) = try pair()
    try there.send([UInt8](repeating: 1, count: 1024))
    #expect(try read(here) == "1024 bytes, no descriptor")
    #expect(throws: ZDSError.messageTooLong(bytes: 1025)) { try there.send([UInt8](repeating: 1, count: 1025)) }
    let long = [UInt8](repeating: 1, count: 1025)
    #expect(send(there.descriptor.raw, long, long.count, 0) == long.count)
    #expect(throws: ZDSError.truncatedPacket) { _ = try here.receive() }
  }

  @Test("the end of the peer is the end of the file, and a send to it says so")
  func endOfFile() throws {
    let (here, there) = try pair()
    there.shutDown()
    #expect(try read(here) == "end")
    #expect(throws: ZDSError.closedByPeer) { try here.send([1]) }
  }

  @Test("an empty packet is the end of the file")
  func emptyPacket() throws {
    let (here, there) = try pair()
    #expect(send(there.descriptor.raw, nil, 0, 0) == 0)
    #expect(try read(here) == "end")
  }

  @Test("one descriptor is handed over, close-on-exec, and closed with its owner")
  func oneDescriptor() throws {
    let watch: SharedDescriptor
    do {
      let (here, there) = try pair()
      watch = try sendDescriptors(1, on: there)
      guard case .packet(_, let descriptors) = try here.receive(), let descriptor = descriptors.first else {
        Issue.record("no descriptor")
        return
      }
      #expect(fcntl(descriptor.raw, F_GETFD) & FD_CLOEXEC != 0)
      var byte: UInt8 = 0
      #expect(Glibc.read(watch.raw, &byte, 1) == -1 && errno == EAGAIN)
    }
    #expect(isClosed(watch))
  }

  @Test("surplus descriptors fail the packet and are all closed", arguments: [2, 3, 17, 253])
  func surplus(count: Int) throws {
    let (here, there) = try pair()
    let watch = try sendDescriptors(count, on: there)
    #expect(throws: ZDSError.unexpectedDescriptors(count: count)) { _ = try here.receive() }
    #expect(isClosed(watch))
  }

  @Test("a descriptor with a truncated packet, or with an empty one, is closed", arguments: [0, 1500])
  func descriptorsOfBadPackets(length: Int) throws {
    let (here, there) = try pair()
    let watch = try sendDescriptors(1, on: there, bytes: [UInt8](repeating: 1, count: length))
    do { #expect(try read(here) == "end") } catch { #expect(error as? ZDSError == .truncatedPacket) }
    #expect(isClosed(watch))
  }

  @Test("a peer that does not read is an error, not a wait")
  func fullBuffer() throws {
    let (here, _there) = try pair()
    var error: ZDSError?
    for _ in 0..<10_000 where error == nil {
      do throws(ZDSError) { try here.send([UInt8](repeating: 1, count: 1024)) } catch let thrown { error = thrown }
    }
    #expect(error == .peerNotReading)
    withExtendedLifetime(_there) {}
  }

  static let add: [UInt8] = (try? ZDSRequest.add(uid("u1"), someInfo).encoded()) ?? []

  @Test("an add without a descriptor is refused")
  func addWithoutDescriptor() throws {
    #expect(throws: ZDSError.descriptorMissing) { _ = try IncomingRequest(Self.add, []) }
  }

  @Test(
    "anything else with a descriptor is refused, and the descriptor is closed",
    arguments: [ZDSRequest.keep(uid("u1")), .delete(uid("u1")), .snapshotSent])
  func unexpectedDescriptor(request: ZDSRequest) throws {
    let bytes = try request.encoded()
    let watch: SharedDescriptor
    do {
      let (reader, passed) = try watchedDescriptor()
      watch = reader
      #expect(throws: ZDSError.unexpectedDescriptors(count: 1)) { try IncomingRequest(bytes, [passed]) }
    }
    #expect(isClosed(watch))
  }

  @Test("an add with something that is no network namespace names it")
  func wrongDescriptor() throws {
    let watch: SharedDescriptor
    do {
      let (reader, other) = try watchedDescriptor()
      watch = reader
      guard
        case .instruction(.addWithoutNamespace(_, .notANetworkNamespace), _) =
          try IncomingRequest(Self.add, [other]).content
      else {
        Issue.record("the pipe was taken for a namespace")
        return
      }
    }
    #expect(isClosed(watch))
  }

  @Test("an add with a network namespace has its identity")
  func rightDescriptor() throws {
    let descriptor = SharedDescriptor(try Descriptor.open("/proc/self/ns/net", O_RDONLY))
    guard
      case .instruction(.add(_, let info, let namespace), _) = try IncomingRequest(Self.add, [descriptor]).content
    else {
      Issue.record("the namespace was refused")
      return
    }
    #expect(info == someInfo)
    #expect(namespace.identity == (try NetworkNamespace(path: "/proc/self/ns/net")).identity)
  }
}
