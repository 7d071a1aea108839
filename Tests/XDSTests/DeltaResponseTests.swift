import GRPC
import IstioAPI
import Testing
import Vocabulary

@testable import XDS

@Suite("Delta response")
struct DeltaResponseTests {
  private func bytes(_ response: Response) throws -> [UInt8] { try response.serializedBytes() }

  @Test("is read as protobuf reads it, a resource at a time")
  func reads() throws {
    var message = response(.address, [resource("a", [1, 2], version: "v"), resource("b", [])], removed: ["x", "y"])
    message.resources[0].aliases = ["n/1.2.3.4"]
    message.resources[0].ttl.seconds = 7
    message.systemVersionInfo = "s"
    var read = try DeltaResponse(try bytes(message))
    #expect(read.typeURL == message.typeURL && read.nonce == "n")
    let removed = [read.nextRemoved(), read.nextRemoved(), read.nextRemoved()]
    #expect(removed == ["x", "y", nil] && read.removedCount == 2)
    #expect(read.resourceCount == 2)
    let resources = [read.next(), read.next(), read.next(), read.next()]
    #expect(resources.map { $0?.name } == ["a", "b", nil, nil])
    #expect(resources.map { $0?.version } == ["v", "1", nil, nil])
    #expect(resources.map { $0?.value } == [[1, 2], [], nil, nil])
    #expect(resources[0]?.aliases == ["n/1.2.3.4"])
  }

  @Test("a resource that is no message is one without content, and the next one is read")
  func malformedResource() throws {
    let good = try bytes(response(.address, [resource("b", [3])]))
    var read = try DeltaResponse([0x12, 2, 0x0a, 9] + good)
    #expect(read.resourceCount == 2)
    let resources = [read.next(), read.next()]
    #expect(resources.map { $0?.value } == [nil, [3]] && resources[1]?.name == "b")
  }

  @Test(
    "bytes that are no response are refused",
    arguments: [
      [0x12], [0x12, 5, 1], [0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], [0x00], [0x0b],
      [0x22, 1, 0xff],
      [0x12, 0x80], [0x09, 1, 2],
      [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    ] as [[UInt8]])
  func malformed(_ bytes: [UInt8]) {
    #expect(throws: MessageFields.Malformed.self) { try DeltaResponse(bytes) }
  }

  @Test("cut anywhere or with any byte changed, it is read or refused, and nothing else happens")
  func hostile() throws {
    let good = try bytes(response(.address, [resource("a", [1, 2]), resource("b", [4])], removed: ["x"]))
    func readAll(_ bytes: [UInt8]) {
      guard var read = try? DeltaResponse(bytes) else { return }
      var count = 0
      while read.next() != nil { count += 1 }
      #expect(count == read.resourceCount)
      count = 0
      while read.nextRemoved() != nil { count += 1 }
      #expect(count == read.removedCount)
    }
    for length in 0..<good.count { readAll(Array(good[..<length])) }
    for index in good.indices {
      for byte: UInt8 in [0, 1, 0x7f, 0x80, 0xff] {
        var changed = good
        changed[index] = byte
        readAll(changed)
      }
    }
  }

  @Test(
    "a version comes back as it was",
    arguments: ["", "1", "00ab34cd56ef7890", "00AB34CD56EF7890", "0123456789abcde", "x"])
  func version(_ text: String) { #expect(ResourceVersion(text).text == text) }

  @Test("a hash takes no memory of its own")
  func compact() { #expect(ResourceVersion("00ab34cd56ef7890") == .hash(0x00ab_34cd_56ef_7890)) }

  @Test(
    "the end of a stream is counted under the reason that dashboards know",
    arguments: [
      (GRPCStatus.Code.ok, true, XDSStatistics.Termination.complete), (.unavailable, false, .connectionError),
      (.unauthenticated, false, .connectionError), (.unavailable, true, .reconnect), (.cancelled, true, .reconnect),
      (.permissionDenied, true, .error), (.internalError, true, .error),
    ])
  func termination(_ code: GRPCStatus.Code, _ wasOpen: Bool, _ reason: XDSStatistics.Termination) {
    #expect(XDSStatistics.Termination(GRPCStatus(code, ""), wasOpen: wasOpen) == reason)
  }
}
