import Glibc
import TestSupport
import Testing

@testable import Linux

@Suite("A mailbox")
struct MailboxTests {
  @Test("gives what was put into it in order, descriptors too, to whoever has it")
  func order() throws {
    let mailbox = try Mailbox()
    #expect(try mailbox.take() == nil)
    let file = SharedDescriptor(try Descriptor.open("/dev/null", O_RDONLY))
    // More than `net.unix.max_dgram_qlen`, which is for others' queues.
    for number in 0..<2000 { try mailbox.put(Array("\(number)".utf8), passing: [file, file]) }
    let other = Mailbox(adopting: SharedDescriptor(Descriptor(owning: dup(mailbox.descriptor.raw))))
    for number in 0..<2000 {
      let message = try #require(try (number.isMultiple(of: 2) ? mailbox : other).take())
      #expect(String(decoding: message.bytes, as: UTF8.self) == "\(number)")
      #expect(message.descriptors.count == 2)
    }
    #expect(try other.take() == nil)
  }

  @Test("refuses what is too long, and says when it is full")
  func limits() throws {
    let mailbox = try Mailbox()
    #expect(throws: SystemError.self) {
      try mailbox.put([UInt8](repeating: 0, count: Mailbox.longestMessage + 1), passing: [])
    }
    let longest = [UInt8](repeating: 7, count: Mailbox.longestMessage)
    var count = 0
    var full: CInt?
    while full == nil, count < 100_000 {
      do throws(SystemError) {
        try mailbox.put(longest, passing: [])
        count += 1
      } catch { full = error.number }
    }
    #expect(full == EAGAIN)
    #expect(try mailbox.take()?.bytes == longest)
    for _ in 1..<count { #expect(try mailbox.take() != nil) }
    #expect(throws: Never.self) { try mailbox.put(longest, passing: []) }
  }

  @Test("takes nothing from others")
  func intruder() throws {
    let mailbox = try Mailbox()
    var address = sockaddr_un()
    var length = socklen_t(MemoryLayout<sockaddr_un>.size)
    let stranger = Descriptor(owning: socket(AF_UNIX, CInt(SOCK_DGRAM.rawValue), 0))
    let number = stranger.raw
    let sent = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        getsockname(mailbox.descriptor.raw, $0, &length) == 0 ? sendto(number, "x", 1, 0, $0, length) : 0
      }
    }
    #expect(sent == -1 && errno == EPERM)
    #expect(try mailbox.take() == nil)
  }

  @Test("is known for what it is by whoever gets its descriptor", .requires(.root))
  func identity() throws {
    let mailbox = try Mailbox()
    let known = try #require(try WaitingSocket(mailbox.descriptor.raw))
    #expect(known.kind == .mailbox && known.address == nil)
    #expect(known.namespace == NetworkNamespace.home.identity)
    var ends: [CInt] = [-1, -1]
    #expect(socketpair(AF_UNIX, CInt(SOCK_DGRAM.rawValue), 0, &ends) == 0)
    let pair = ends.map { SharedDescriptor(Descriptor(owning: $0)) }
    #expect(try WaitingSocket(pair[0].raw) == nil, "connected to another")
    let stranger = Descriptor(owning: socket(AF_UNIX, CInt(SOCK_DGRAM.rawValue), 0))
    let number = stranger.raw
    #expect(try WaitingSocket(number) == nil, "connected to nobody")
  }
}
