import GRPC
import IstioAPI
import Linux
import SwiftProtobuf
import TLS
import Vocabulary

/// The control plane's certificate service (identity.md §3): asks for a pod's identity in this node's own name.
///
/// Safe to use from any task; the calls run on one event loop.
public final class IstioAuthority: CertificateAuthority {
  private let loop: EventLoop
  // Made by the caller and used on `loop` only.
  nonisolated(unsafe) private let channel: GRPCChannel
  /// The life that is asked for, in seconds.
  private let lifetime: Int64

  static let method = "/istio.v1.auth.IstioCertificateService/CreateCertificate"
  /// Time one call may take, its connection included (identity.md limit 1): less than the store's patience, so that what
  /// went wrong is told by its own name.
  static let patience = Duration.seconds(20)
  /// Elements of an answer; a chain through as many authorities as TLS follows, and a bundle, is far shorter.
  static let mostElements = 32

  /// `channel` belongs to `loop`.
  public init(channel: GRPCChannel, loop: EventLoop, lifetime: Duration) {
    self.channel = channel
    self.loop = loop
    self.lifetime = lifetime.components.seconds
  }

  public func issue(_ identity: SPIFFEIdentity) async throws(IdentityError) -> WorkloadCertificate {
    let key: PrivateKey
    let request: [UInt8]
    do throws(TLSError) {
      key = try PrivateKey.generate()
      request = try Self.request(for: identity, key: key, lifetime: lifetime)
    } catch {
      throw .issueFailed(identity, reason: error.summary)
    }
    let result = await withCheckedContinuation { (continuation: CheckedContinuation<Answer, Never>) in
      loop.spawn { [channel] in
        do throws(GRPCStatus) {
          let answer = try await channel.unary(Self.method, request, deadline: .now + Self.patience)
          continuation.resume(returning: .success(answer))
        } catch {
          continuation.resume(returning: .failure(error))
        }
      }
    }
    switch result {
    case .success(let answer): return try Self.certificate(for: identity, key: key, answer: answer)
    case .failure(let status): throw .authorityRefused(identity, status)
    }
  }

  private typealias Answer = Result<[UInt8], GRPCStatus>

  /// The request's bytes.
  static func request(for identity: SPIFFEIdentity, key: PrivateKey, lifetime: Int64) throws(TLSError) -> [UInt8] {
    var request = Istio_V1_Auth_IstioCertificateRequest()
    request.csr = try SigningRequest.pem(for: identity, key: key)
    request.validityDuration = lifetime
    request.metadata.fields["ImpersonatedIdentity"] = Google_Protobuf_Value(stringValue: identity.description)
    // Fails only for text that is not UTF-8, which a string cannot hold.
    return (try? request.serializedBytes()) ?? []
  }

  /// Reads an answer (identity.md §4): the leaf, one certificate from each element between, and all of the last
  /// element as trust bundle. The leaf must be for nobody else, and of our key.
  static func certificate(
    for identity: SPIFFEIdentity, key: PrivateKey, answer: [UInt8]
  ) throws(IdentityError) -> WorkloadCertificate {
    let response: Istio_V1_Auth_IstioCertificateResponse
    do { response = try Istio_V1_Auth_IstioCertificateResponse(serializedBytes: answer) } catch {
      throw .answerMalformed(identity, reason: "it cannot be decoded")
    }
    let elements = response.certChain
    guard let first = elements.first, let last = elements.last else { throw .chainEmpty(identity) }
    guard elements.count > 1 else { throw .answerMalformed(identity, reason: "it holds no root certificate") }
    guard elements.count <= mostElements else {
      throw .answerMalformed(identity, reason: "it holds \(elements.count) elements, more than \(mostElements)")
    }
    let certificate: WorkloadCertificate
    do throws(TLSError) {
      var chain: [Certificate] = []
      for element in [first] + elements.dropFirst().dropLast() {
        chain += try Certificate.parse(pem: element, subject: "certificate for \(identity)").prefix(1)
      }
      certificate = try WorkloadCertificate(
        chain: chain, privateKey: key,
        roots: try Certificate.parse(pem: last, subject: "trust bundle for \(identity)"))
    } catch {
      throw .answerMalformed(identity, reason: error.summary)
    }
    guard certificate.leaf.uris.first == identity.description else {
      throw .wrongIdentityIssued(identity, issued: certificate.leaf.uris)
    }
    return certificate
  }
}
