import IstioAPI
import TLS
import Vocabulary

/// What a SPIFFE agent gives to this process: one answer of its stream, read. Each answer replaces the one before.
struct AgentIdentities: Sendable {
  private enum Entry: Sendable {
    case certificate(WorkloadCertificate)
    case malformed(TLSError)
  }

  private var entries: [SPIFFEIdentity: Entry] = [:]
  /// Identities of another form than a service account's, which no workload of a mesh can have.
  private(set) var foreign = 0
  /// Bundles of other trust domains that cannot be read: their workloads cannot be trusted.
  private(set) var malformedBundles: [String: TLSError] = [:]

  /// Identities taken from one answer; more are left out.
  static let most = 4096

  var count: Int { entries.count }

  /// All that can be used.
  var certificates: [WorkloadCertificate] {
    entries.keys.compactMap { try? certificate(of: $0) }
  }

  /// Reads an answer. Of several certificates with one identity the first counts, as the standard has it.
  init(_ response: X509SVIDResponse) {
    let federated = federatedRoots(response.federatedBundles.map { ($0.key, Array($0.value)) })
    for message in response.svids {
      guard let identity = SPIFFEIdentity(uri: message.spiffeID) else {
        foreign += 1
        continue
      }
      guard entries[identity] == nil, entries.count < Self.most else { continue }
      do throws(TLSError) {
        entries[identity] = .certificate(try Self.certificate(identity, message, federated))
      } catch { entries[identity] = .malformed(error) }
    }
  }

  /// The certificate of an identity. Throws `identityNotGiven`, `identityMalformed` and `wrongIdentityIssued`.
  func certificate(of identity: SPIFFEIdentity) throws(IdentityError) -> WorkloadCertificate {
    switch entries[identity] {
    case nil: throw .identityNotGiven(identity, given: count)
    case .malformed(let error): throw .identityMalformed(identity, cause: error)
    case .certificate(let certificate):
      guard certificate.leaf.uris == [identity.description] else {
        throw .wrongIdentityIssued(identity, issued: certificate.leaf.uris)
      }
      return certificate
    }
  }

  private static func certificate(
    _ identity: SPIFFEIdentity, _ message: X509SVID, _ federated: [String: [Certificate]]
  ) throws(TLSError) -> WorkloadCertificate {
    try WorkloadCertificate(
      chain: try Certificate.parse(
        concatenatedDER: Array(message.x509Svid), subject: "certificate for \(identity)"),
      privateKey: try PrivateKey(der: Array(message.x509SvidKey), subject: "key for \(identity)"),
      roots: try Certificate.parse(concatenatedDER: Array(message.bundle), subject: "trust bundle for \(identity)"),
      federatedRoots: federated.filter { $0.key != identity.trustDomain })
  }

  /// Bundles by the name of their trust domain; they come under its SPIFFE id, `spiffe://domain`.
  private mutating func federatedRoots(_ bundles: [(id: String, der: [UInt8])]) -> [String: [Certificate]] {
    var roots: [String: [Certificate]] = [:]
    for (id, der) in bundles {
      let name = id.hasPrefix("spiffe://") ? String(id.dropFirst("spiffe://".count)) : id
      guard !name.isEmpty, !name.contains("/") else {
        malformedBundles[id] = .certificateMalformed(id, reason: "it is the bundle of no trust domain")
        continue
      }
      do throws(TLSError) {
        roots[name] = try Certificate.parse(concatenatedDER: der, subject: "trust bundle of \(name)")
      } catch { malformedBundles[name] = error }
    }
    return roots
  }
}
