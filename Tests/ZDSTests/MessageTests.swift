import Testing

@testable import ZDS

@Suite("ZDS messages")
struct MessageTests {
  static let requests: [(ZDSRequest, String)] = [
    (.add(uid("u1"), someInfo), "0a 0f 0a 02 75 31 12 09 0a 01 61 12 01 62 1a 01 63"),
    (.keep(uid("u1")), "2a 04 0a 02 75 31"),
    (.delete(uid("u1")), "12 04 12 02 75 31"),
    (.snapshotSent, "1a 00"),
  ]

  @Test("a request has the bytes of zds.md §2, both ways", arguments: requests)
  func requestVectors(request: ZDSRequest, hex: String) throws {
    #expect(try request.encoded() == [UInt8](hex: hex))
    #expect(try ZDSRequest(decoding: [UInt8](hex: hex)) == request)
  }

  static let responses: [(ZDSResponse, String)] = [
    (.acknowledged, "0a 00"),
    (.refused("x"), "0a 03 0a 01 78"),
  ]

  @Test("a response has the bytes of zds.md §2, both ways", arguments: responses)
  func responseVectors(response: ZDSResponse, hex: String) throws {
    #expect(response.encoded() == [UInt8](hex: hex))
    #expect(try ZDSResponse(decoding: [UInt8](hex: hex)) == response)
  }

  @Test("the hello has the bytes of zds.md §2, both ways")
  func helloVector() throws {
    #expect(ZDSHello().encoded() == [UInt8](hex: "08 01"))
    #expect(try ZDSHello(decoding: [UInt8](hex: "08 01")) == ZDSHello())
  }

  @Test("a hello of a version nobody knows is read, not refused")
  func futureHello() throws {
    #expect(try ZDSHello(decoding: [UInt8](hex: "08 63")).version == 99)
  }

  @Test("fields of a later version are ignored")
  func unknownFields() throws {
    // Field 9 (a string) beside the del, and trust domain, field 4, inside the workload info.
    #expect(try ZDSRequest(decoding: [UInt8](hex: "12 04 12 02 75 31 4a 01 7a")) == .delete(uid("u1")))
    let add = [UInt8](hex: "0a 12 0a 02 75 31 12 0c 0a 01 61 12 01 62 1a 01 63 22 01 74")
    #expect(try ZDSRequest(decoding: add) == .add(uid("u1"), someInfo))
  }

  static let hostile: [(String, ZDSError)] = [
    ("", .emptyPayload(message: "WorkloadRequest")),
    ("4a 01 7a", .emptyPayload(message: "WorkloadRequest")),
    ("0a", .malformed(message: "WorkloadRequest")),
    ("0a 7f 0a", .malformed(message: "WorkloadRequest")),
    ("0a ff ff ff ff ff ff ff ff ff ff 01", .malformed(message: "WorkloadRequest")),
    ("00 00", .malformed(message: "WorkloadRequest")),
    ("1b 1b 1b", .malformed(message: "WorkloadRequest")),
    // The uid is no UTF-8.
    ("2a 04 0a 02 ff fe", .malformed(message: "WorkloadRequest")),
    ("0a 04 0a 02 75 31", .missingWorkloadInfo(uid("u1"))),
    ("0a 02 12 00", .emptyUID(message: "AddWorkload")),
    ("2a 00", .emptyUID(message: "KeepWorkload")),
    ("12 00", .emptyUID(message: "DelWorkload")),
    // The uid of a del has number 2.
    ("12 04 0a 02 75 31", .emptyUID(message: "DelWorkload")),
  ]

  @Test("a hostile request is refused with its reason", arguments: hostile)
  func hostileRequests(hex: String, error: ZDSError) {
    #expect(throws: error) { try ZDSRequest(decoding: [UInt8](hex: hex)) }
  }

  @Test("a response without an answer is refused", arguments: ["", "12 00", "4a 01 7a"])
  func hostileResponses(hex: String) {
    #expect(throws: ZDSError.emptyPayload(message: "WorkloadResponse")) {
      try ZDSResponse(decoding: [UInt8](hex: hex))
    }
  }

  @Test("a request that does not fit a packet is not sent")
  func tooLong() {
    let long = WorkloadInfo(name: String(repeating: "n", count: 1024), namespace: "b", serviceAccount: "c")
    #expect(throws: ZDSError.self) { try ZDSRequest.add(uid("u1"), long).encoded() }
  }

  @Test("the longest names of Kubernetes fit a packet")
  func kubernetesMaximum() throws {
    let long = WorkloadInfo(
      name: String(repeating: "n", count: 253), namespace: String(repeating: "m", count: 63),
      serviceAccount: String(repeating: "s", count: 253))
    let request = ZDSRequest.add(uid("2c48913c-b29f-11e7-9350-020968147796"), long)
    #expect(try request.encoded().count <= 640)
    #expect(try ZDSRequest(decoding: request.encoded()) == request)
  }

  @Test("a long reason is cut to fit, never inside a character", arguments: ["x", "é", "€", "🦀"])
  func longReasons(character: String) throws {
    for padding in 0..<4 {
      let reason = String(repeating: "-", count: padding) + String(repeating: character, count: 2000)
      let bytes = ZDSResponse.refused(reason).encoded()
      #expect(bytes.count <= PacketSocket.maximumPacket)
      #expect(bytes.count > PacketSocket.maximumPacket - 4)
      guard case .refused(let read) = try ZDSResponse(decoding: bytes) else {
        Issue.record("became an acknowledgement")
        return
      }
      #expect(reason.hasPrefix(read))
    }
  }

  @Test("a refusal without a reason stays a refusal")
  func emptyReason() throws {
    #expect(try ZDSResponse(decoding: ZDSResponse.refused("").encoded()) != .acknowledged)
  }

  @Test("whatever is encoded is read back the same", arguments: [UInt64(1), 2, 3, 4])
  func roundTrip(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    func text(_ length: ClosedRange<Int>) -> String {
      String(
        String.UnicodeScalarView(
          (0..<Int.random(in: length, using: &random)).compactMap { _ in
            Unicode.Scalar(UInt32.random(in: 0...0x10ffff, using: &random))
          }))
    }
    for _ in 0..<2000 {
      let id = uid("u" + text(0...30))
      let request: ZDSRequest =
        switch Int.random(in: 0..<4, using: &random) {
        case 0: .add(id, .init(name: text(0...50), namespace: text(0...50), serviceAccount: text(0...50)))
        case 1: .keep(id)
        case 2: .delete(id)
        default: .snapshotSent
        }
      #expect(try ZDSRequest(decoding: request.encoded()) == request)
      let reason = "r" + text(0...100)
      #expect(try ZDSResponse(decoding: ZDSResponse.refused(reason).encoded()) == .refused(reason))
    }
  }

  @Test(
    "random and mutated bytes are read or refused, and what is read survives a round trip",
    arguments: [UInt64(11), 12, 13, 14])
  func fuzz(seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    let vectors = Self.requests.map { [UInt8](hex: $0.1) } + Self.responses.map { [UInt8](hex: $0.1) }
    for round in 0..<10_000 {
      var bytes: [UInt8]
      if round.isMultiple(of: 2) {
        bytes = (0..<Int.random(in: 0...64, using: &random)).map { _ in .random(in: 0...255, using: &random) }
      } else {
        bytes = vectors.randomElement(using: &random) ?? []
        for _ in 0...Int.random(in: 0...3, using: &random) where !bytes.isEmpty {
          bytes[Int.random(in: 0..<bytes.count, using: &random)] = .random(in: 0...255, using: &random)
        }
        bytes.removeLast(Int.random(in: 0...bytes.count / 2, using: &random))
      }
      if let request = try? ZDSRequest(decoding: bytes) {
        #expect(try ZDSRequest(decoding: request.encoded()) == request)
      }
      if let response = try? ZDSResponse(decoding: bytes) {
        #expect(try ZDSResponse(decoding: response.encoded()) == response)
      }
      _ = try? ZDSHello(decoding: bytes)
    }
  }
}
