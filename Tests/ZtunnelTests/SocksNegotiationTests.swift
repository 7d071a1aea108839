import Glibc
import Linux
import Testing
import Vocabulary

@testable import Ztunnel

@Suite("A SOCKS5 negotiation")
struct SocksNegotiationTests {
  /// Everything the client sends, in pieces of `size` bytes; what came of it, and how many bytes were taken.
  private func play(_ bytes: [UInt8], size: Int = .max) -> (steps: [SocksNegotiation.Step], taken: Int) {
    var negotiation = SocksNegotiation()
    var steps: [SocksNegotiation.Step] = []
    var taken = 0
    while taken < bytes.count, negotiation.bytesWanted > 0 {
      let count = min(size, negotiation.bytesWanted, bytes.count - taken)
      let step = negotiation.receive(bytes[taken..<taken + count])
      taken += count
      if step != .wantsBytes { steps.append(step) }
    }
    return (steps, taken)
  }

  private static let greeting: [UInt8] = [5, 1, 0]
  private static let welcome = SocksNegotiation.Step.answer([5, 0])
  private static let name: [UInt8] = Array("Shop.Example.".utf8)

  @Test(
    "ends with the target asked for, however the bytes come",
    arguments: [
      ([5, 1, 0, 1, 10, 0, 0, 1, 0x1f, 0x90] as [UInt8], "10.0.0.1:8080"),
      ([5, 1, 0, 4, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 80], "[fd00::7]:80"),
      // IPv4 in disguise must not slip past what is said of IPv4.
      ([5, 1, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1, 0x3a, 0x99], "127.0.0.1:15001"),
      ([5, 1, 0, 3, 8] + Array("10.0.0.1".utf8) + [0, 80], "10.0.0.1:80"),
    ], [1, 3, Int.max])
  func address(_ request: (bytes: [UInt8], target: String), size: Int) throws {
    let target = try #require(SocketAddress(request.target))
    let bytes = Self.greeting + request.bytes
    let (steps, taken) = play(bytes + Array("early data".utf8), size: size)
    #expect(steps == [Self.welcome, .connect(.address(target))])
    #expect(taken == bytes.count, "what follows the request is not the negotiation's")
  }

  @Test("takes a host name in lower case and without its final dot")
  func hostname() {
    let request: [UInt8] = [5, 1, 0, 3, UInt8(Self.name.count)] + Self.name + [0, 80]
    #expect(play(Self.greeting + request).steps == [Self.welcome, .connect(.hostname("shop.example", port: 80))])
  }

  @Test("accepts a client that offers other methods too")
  func manyMethods() {
    let greeting: [UInt8] = [5, 255] + (0...254).reversed()
    #expect(play(greeting).steps == [Self.welcome])
  }

  @Test(
    "refuses what is not SOCKS5, not CONNECT, or no address",
    arguments: [
      ([4, 1, 0, 80, 10, 0, 0, 1, 0], SocksError.version(4)),
      (Array("GET / HTTP/1.1\r\n\r\n".utf8), .version(UInt8(ascii: "G"))),
      ([0x16, 3, 1, 0, 200], .version(0x16)),
      ([5, 1, 0, 4, 1, 0, 1], .version(4)),
      ([5, 1, 0, 5, 2, 0, 1, 0, 0, 0, 0, 0, 0], .command(2)),
      ([5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0], .command(3)),
      ([5, 1, 0, 5, 1, 0, 2, 0, 0, 0, 0, 0, 0], .addressType(2)),
      ([5, 1, 0, 5, 1, 0, 0xff], .addressType(0xff)),
      ([5, 1, 0, 5, 1, 0, 3, 0, 0, 80], .malformedName),
      ([5, 1, 0, 5, 1, 0, 3, 1, UInt8(ascii: "."), 0, 80], .malformedName),
      ([5, 1, 0, 5, 1, 0, 3, 2, 0xc3, 0x28, 0, 80], .malformedName),
      ([5, 1, 0, 5, 1, 0, 3, 3, 0x61, 0, 0x62, 0, 80], .malformedName),
      ([5, 1, 0, 5, 1, 0, 3, 3, 0x61, 0x0a, 0x62, 0, 80], .malformedName),
    ] as [([UInt8], SocksError)])
  func hostile(_ bytes: [UInt8], _ error: SocksError) {
    let refusal = SocksNegotiation.Step.refuse([5, 7, 0, 1, 0, 0, 0, 0, 0, 0], error)
    #expect(play(bytes).steps.last == refusal)
    #expect(play(bytes, size: 1).steps.last == refusal)
  }

  @Test("refuses a client that wants to authenticate", arguments: [[5, 1, 2], [5, 0], [5, 2, 1, 2]] as [[UInt8]])
  func authentication(_ bytes: [UInt8]) {
    #expect(play(bytes).steps == [.refuse([5, 0xff], .noAcceptableMethod)])
  }

  @Test("takes nothing after its end, and never more than a few hundred bytes")
  func bounded() {
    var random = FastRandom()
    for _ in 0..<20_000 {
      let bytes = (0..<Int.random(in: 1...700, using: &random)).map { index in
        index == 0 || Bool.random(using: &random) ? UInt8.random(in: 0...6, using: &random) : 5
      }
      let (steps, taken) = play(bytes, size: Int.random(in: 1...600, using: &random))
      #expect(steps.count <= 2 && taken <= 2 + 255 + 5 + 255 + 2)
    }
  }

  @Test(
    "tells the client why, as well as SOCKS can",
    arguments: [
      (ProxyError.recursiveCall, 2), (.status(401), 2), (.status(503), 1), (.connectTimeout(seconds: 15), 4),
      (.upstreamUnreachable(.refused(SystemError("connect", ECONNREFUSED))), 5),
      (.upstreamUnreachable(.refused(SystemError("connect", ENETUNREACH))), 3),
      (.tunnelUnreachable(.refused(SystemError("connect", EHOSTUNREACH))), 4),
      (.tunnelUnreachable(.timeout(SocketAddress(.v4(1), 1))), 4), (.socks(.unknownName("x")), 4), (.drained, 1),
    ] as [(ProxyError, UInt8)])
  func replies(_ error: ProxyError, _ code: UInt8) {
    #expect(SocksReply(error).bytes == [5, code, 0, 1, 0, 0, 0, 0, 0, 0])
  }
}
