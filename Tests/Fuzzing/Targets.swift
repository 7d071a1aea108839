import DNS
import IstioAPI
import Mesh
import TLS
import Vocabulary
import YAML
import ZDS

@testable import XDS

/// What is fuzzed. Each takes bytes as a peer or a file might hold them, and traps where a promise is broken: that is what
/// libFuzzer looks for, besides crashes of its own finding.
enum Targets {
  typealias Target = @Sendable ([UInt8]) -> Void

  // Set once, before the only thread begins.
  nonisolated(unsafe) static var chosen: Target = { _ in }

  static let named: [String: Target] = [
    "xds": { resources($0) }, "dns": { message($0) }, "zds": { packet($0) }, "mesh": { document($0) },
    "x509": { certificates($0) },
  ]

  /// A response of the control plane, of the type that its first byte chooses: whatever is in it, the mesh takes the
  /// changes, every resource is either taken or refused by name, and no policy ends in nothing.
  private static func resources(_ bytes: [UInt8]) {
    guard let first = bytes.first else { return }
    let type: ResourceType = first & 1 == 0 ? .address : .authorization
    let rest = Array(bytes.dropFirst())
    // Once as one resource, whose name is the right one where there is one; once as a whole response.
    do throws(ResourceRejection) {
      var decoder = ResourceDecoder()
      _ = try decoder.change(type, name: "ns/name", bytes: rest)
    } catch {
      precondition(!error.summary.isEmpty)
    }
    guard var response = try? Envoy_Service_Discovery_V3_DeltaDiscoveryResponse(serializedBytes: rest) else { return }
    response.typeURL = type.rawValue
    // What cannot be decoded at all ends the stream, so that it is no response.
    guard let bytes: [UInt8] = try? response.serializedBytes(), let read = try? DeltaResponse(bytes) else { return }
    precondition(read.resourceCount == response.resources.count)
    precondition(read.removedCount == response.removedResources.count)
    var subscription = DeltaSubscription(node: NodeDescription(environment: [:]), retains: true)
    let empty = MeshSnapshot(settings: MeshSettings())
    var update = MeshUpdate(of: empty)
    var kept: [RetainedPortion] = []
    var answers = 0
    for _ in 0..<2 {
      var intake = DeltaIntake(read)
      var actions: [DeltaSubscription.Action] = []
      while !intake.isFinished { actions += subscription.take(&intake, atMost: 1 + Int(first >> 1)) }
      for action in actions + subscription.finish(intake) {
        switch action {
        case .apply(let changes): update.apply(changes)
        case .retain(let portion): kept.append(portion)
        case .send(let request):
          answers += 1
          precondition(request.responseNonce == response.nonce)
        case .report, .reportUnknownType, .ready: break
        }
      }
    }
    precondition(answers == 2, "each response is answered once")
    // A restart comes to the same mesh.
    var restarted = DeltaSubscription(node: NodeDescription(environment: [:]), retains: true)
    var restoration = MeshUpdate(of: empty)
    for portion in kept {
      let encoded = portion.encoded
      precondition(RetainedPortion(encoded: encoded)?.encoded == encoded, "what was retained can be copied")
      do throws(ResourceRejection) { try restarted.restore(encoded, into: &restoration) } catch {
        preconditionFailure("what was retained cannot be read: \(error)")
      }
    }
    let (mesh, again) = (update.snapshot, restoration.snapshot)
    precondition(again.workloadCount == mesh.workloadCount && again.serviceCount == mesh.serviceCount)
    precondition(again.policyCount == mesh.policyCount, "a restart knows every policy")
  }

  /// A DNS message from a client, and the same bytes as an answer from upstream.
  private static func message(_ bytes: [UInt8]) {
    switch Intake(bytes) {
    case .ignored: break
    case .rejected(let reply): precondition(MessageHeader(reply)?.isResponse == true)
    case .other(let message):
      precondition(message == bytes)
      passage(bytes, nil)
    case .query(let query):
      let addresses = (0..<40).map { _ in IPAddress.loopback(query.question.type == .aaaa ? .v6 : .v4) }
      for limit in [query.datagramLimit, Response.streamLimit] {
        let reply = Response.answer(Answer(addresses: addresses), to: query, limit: limit)
        precondition(reply.count <= limit && MessageHeader(reply)?.id == query.header.id)
        let question = bytes.dropFirst(MessageHeader.size).prefix(query.question.name.wire.count + 4)
        precondition(reply.dropFirst(MessageHeader.size).prefix(question.count).elementsEqual(question))
      }
      precondition(!Response.failure(.serverFailure, to: query).isEmpty)
      _ = query.question.name.hostname
      precondition(!query.question.name.description.isEmpty)
      passage(bytes, query.question)
    }
    _ = Passage.isWorthAnotherServer(bytes)
    _ = ResolverConfiguration(parsing: String(decoding: bytes, as: UTF8.self))
  }

  /// On its way up and back only the id changes.
  private static func passage(_ bytes: [UInt8], _ question: Question?) {
    guard let passage = Passage(bytes, question: question, id: 0xbeef) else { return }
    precondition(passage.outgoing.dropFirst(2).elementsEqual(bytes.dropFirst(2)))
    var answer = passage.outgoing
    answer[2] |= 0x80
    if let accepted = passage.accept(answer) { precondition(accepted.prefix(2).elementsEqual(bytes.prefix(2))) }
  }

  /// A packet of the node agent's socket, read as each of the three messages. What was read is written and read alike.
  private static func packet(_ bytes: [UInt8]) {
    if let request = try? ZDSRequest(decoding: bytes), let encoded = try? request.encoded() {
      precondition((try? ZDSRequest(decoding: encoded)) == request)
    }
    if let response = try? ZDSResponse(decoding: bytes), let again = try? ZDSResponse(decoding: response.encoded()) {
      switch (response, again) {
      case (.acknowledged, .acknowledged), (.refused, .refused): break
      default: preconditionFailure("an answer became another")
      }
    }
    if let hello = try? ZDSHello(decoding: bytes) { _ = hello.encoded() }
  }

  /// A mesh file, and any YAML.
  private static func document(_ bytes: [UInt8]) {
    do throws(MeshFileError) {
      let document = try MeshDocument.parse(bytes, source: "fuzz")
      let mesh = MeshSnapshot(settings: MeshSettings()).applying(document.changes()).0
      let empty = mesh.applying(MeshDocument().changes(from: document)).0
      precondition(empty.workloadCount == 0 && empty.serviceCount == 0 && empty.policyCount == 0)
    } catch {
      precondition(!error.summary.isEmpty && error.remedy != nil)
    }
    _ = try? YAMLReader.documents(bytes, limit: 16)
  }

  /// Certificates, keys and revocation lists.
  private static func certificates(_ bytes: [UInt8]) {
    // libcrypto tries every decoder it has on what might be a key; most inputs are none.
    if bytes.starts(with: "-----".utf8) {
      _ = try? Certificate.parse(pem: bytes)
      if bytes.dropFirst(5).starts(with: "BEGIN P".utf8) { _ = try? PrivateKey(pem: bytes) }
    } else if bytes.first == 0x30 {
      _ = try? PrivateKey(der: bytes)
    }
    _ = try? RevocationList(bytes)
    if let certificates = try? Certificate.parse(concatenatedDER: bytes, subject: "fuzz") {
      let length = certificates.reduce(0) { $0 + ((try? $1.der().count) ?? 0) }
      precondition(!certificates.isEmpty && length > 0)
    }
  }
}
