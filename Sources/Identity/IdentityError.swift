import GRPC
import TLS
import Vocabulary

/// What goes wrong on the way to a workload's certificate.
public indirect enum IdentityError: CodedError, Equatable {
  // The files of a local authority.

  /// A file of the authority's directory cannot be read.
  case fileUnreadable(path: String, reason: String)
  /// A file of the authority's directory holds something else than it should.
  case fileMalformed(path: String, cause: TLSError)
  /// `ca-key.pem` is not the key of `ca-cert.pem`.
  case keyMismatch(path: String)
  /// `ca-cert.pem` may not sign certificates.
  case notAnAuthority(path: String)
  /// `ca-cert.pem` is past its end or before its start.
  case authorityNotValid(path: String, notBefore: Timestamp, notAfter: Timestamp)
  /// `ca-cert.pem` does not lead to `root-cert.pem`.
  case chainBroken(path: String, reason: String)
  /// A directory for a new authority holds one already.
  case authorityExists(path: String)
  /// A file of a new authority cannot be written.
  case fileNotWritten(path: String, reason: String)

  // Issuing.

  /// The authority refused or failed; `reason` is in its words.
  case issueFailed(SPIFFEIdentity, reason: String)
  /// The control plane's certificate service refused, failed, or could not be reached.
  case authorityRefused(SPIFFEIdentity, GRPCStatus)
  /// The authority's answer holds no certificate.
  case chainEmpty(SPIFFEIdentity)
  /// The authority's answer is not what an answer should be.
  case answerMalformed(SPIFFEIdentity, reason: String)
  /// The certificate is for somebody else than it was asked for.
  case wrongIdentityIssued(SPIFFEIdentity, issued: [String])
  /// The certificate had expired on arrival.
  case expiredOnArrival(SPIFFEIdentity, notAfter: Timestamp)
  /// The authority did not answer in time.
  case issueTimedOut(SPIFFEIdentity, after: Duration)

  /// The SPIFFE agent could not be reached, or has not answered.
  case agentUnavailable(SPIFFEIdentity, GRPCStatus)
  /// The SPIFFE agent answered, and this identity is not among those it gives to this process.
  case identityNotGiven(SPIFFEIdentity, given: Int)
  /// The SPIFFE agent's answer for this identity cannot be used.
  case identityMalformed(SPIFFEIdentity, cause: TLSError)

  // Waiting.

  /// The deadline passed while the authority had not answered yet.
  case stillWaiting(SPIFFEIdentity)
  /// The deadline passed, and the last answer of the authority was this failure.
  case unavailable(SPIFFEIdentity, cause: IdentityError)
  /// The last pod with this identity has gone.
  case noLongerNeeded(SPIFFEIdentity)
  /// The task that waited was cancelled.
  case cancelled(SPIFFEIdentity)
  /// More identities, or more connections waiting for one, than the store will keep.
  case storeFull(SPIFFEIdentity)

  public var code: String {
    switch self {
    case .fileUnreadable: "CA_FILE_UNREADABLE"
    case .fileMalformed: "CA_FILE_MALFORMED"
    case .keyMismatch: "CA_KEY_MISMATCH"
    case .notAnAuthority: "CA_NOT_AN_AUTHORITY"
    case .authorityNotValid: "CA_NOT_VALID_NOW"
    case .chainBroken: "CA_CHAIN_BROKEN"
    case .authorityExists: "CA_EXISTS"
    case .fileNotWritten: "CA_FILE_NOT_WRITTEN"
    case .issueFailed: "IDENTITY_ISSUE_FAILED"
    case .authorityRefused: "IDENTITY_AUTHORITY_REFUSED"
    case .chainEmpty: "IDENTITY_CHAIN_EMPTY"
    case .answerMalformed: "IDENTITY_ANSWER_MALFORMED"
    case .wrongIdentityIssued: "IDENTITY_WRONG_SAN"
    case .expiredOnArrival: "IDENTITY_EXPIRED_ON_ARRIVAL"
    case .issueTimedOut: "IDENTITY_ISSUE_TIMED_OUT"
    case .agentUnavailable: "IDENTITY_AGENT_UNAVAILABLE"
    case .identityNotGiven: "IDENTITY_NOT_GIVEN"
    case .identityMalformed: "IDENTITY_MALFORMED"
    case .stillWaiting: "IDENTITY_STILL_WAITING"
    case .unavailable: "IDENTITY_UNAVAILABLE"
    case .noLongerNeeded: "IDENTITY_NO_LONGER_NEEDED"
    case .cancelled: "IDENTITY_WAIT_CANCELLED"
    case .storeFull: "IDENTITY_STORE_FULL"
    }
  }

  public var summary: String {
    switch self {
    case .fileUnreadable(let path, let reason): "\(path) cannot be read: \(reason)"
    case .fileMalformed(_, let cause): cause.summary
    case .keyMismatch(let path): "\(path) is not the key of the ca-cert.pem beside it"
    case .notAnAuthority(let path): "\(path) is not allowed to sign certificates"
    case .authorityNotValid(let path, let notBefore, let notAfter):
      "\(path) is valid from \(notBefore) to \(notAfter), which is not now"
    case .chainBroken(let path, let reason): "\(path) does not lead to the root-cert.pem beside it: \(reason)"
    case .authorityExists(let path): "\(path) exists already and is not overwritten"
    case .fileNotWritten(let path, let reason): "\(path) cannot be written: \(reason)"
    case .issueFailed(let identity, let reason): "no certificate for \(identity): \(reason)"
    case .authorityRefused(let identity, let status):
      "no certificate for \(identity): signing \(status.summary)"
    case .chainEmpty(let identity): "chain returned from CA is empty for: \(identity)"
    case .answerMalformed(let identity, let reason): "the certificate authority's answer for \(identity): \(reason)"
    case .wrongIdentityIssued(let identity, let issued):
      "did not find expected SAN: \(identity); the certificate is for "
        + (issued.isEmpty ? "nobody" : issued.joined(separator: ", "))
    case .expiredOnArrival(let identity, let notAfter):
      "the certificate issued for \(identity) expired at \(notAfter), before it arrived"
    case .issueTimedOut(let identity, let patience):
      "the certificate authority has not answered for \(identity) within \(patience.components.seconds) s"
    case .agentUnavailable(let identity, let status):
      "the SPIFFE agent gives no certificate for \(identity): \(status.summary)"
    case .identityNotGiven(let identity, let given):
      "the SPIFFE agent does not give \(identity) to this process, which has \(given) other identities"
    case .identityMalformed(let identity, let cause):
      "the SPIFFE agent's answer for \(identity) cannot be used: \(cause.summary)"
    case .stillWaiting(let identity): "the certificate for \(identity) was not ready in time"
    case .unavailable(let identity, let cause): "no certificate for \(identity) in time: \(cause.summary)"
    case .noLongerNeeded(let identity): "the identity is no longer needed: \(identity)"
    case .cancelled(let identity): "nobody waits for the certificate of \(identity) any more"
    case .storeFull(let identity): "no room for \(identity) among the certificates that are waited for"
    }
  }

  public var remedy: String? {
    switch self {
    case .fileUnreadable:
      "check the path and its permissions; `cacerts` needs root-cert.pem, ca-cert.pem and ca-key.pem"
    case .fileMalformed(_, let cause): cause.remedy
    case .keyMismatch: "check that ca-cert.pem and ca-key.pem were replaced together"
    case .notAnAuthority: "it needs the basic constraint CA:TRUE and the key usage keyCertSign"
    case .authorityNotValid: "check this machine's clock, then replace the authority's files"
    case .chainBroken: "cert-chain.pem must hold every certificate between ca-cert.pem and root-cert.pem"
    case .authorityExists: "choose an empty directory, or remove the old authority first"
    case .fileNotWritten: "check that the directory exists and can be written"
    case .issueFailed, .issueTimedOut, .stillWaiting: "check that the certificate authority is up and reachable"
    case .authorityRefused(_, let status): status.remedy ?? "read what the control plane logs about it"
    case .agentUnavailable:
      "check that the agent runs and that SPIFFE_ENDPOINT_SOCKET names its socket; it must have an entry for ztunnel"
    case .identityNotGiven: "add a registration entry with this SPIFFE id whose selectors match the ztunnel process"
    case .identityMalformed(_, let cause): cause.remedy
    case .chainEmpty, .answerMalformed: "check that CA_ADDRESS is an Istio certificate authority"
    case .wrongIdentityIssued: "check what the certificate authority allows this node to ask for"
    case .expiredOnArrival: "compare the clocks of this machine and of the certificate authority"
    case .unavailable(_, let cause): cause.remedy
    case .noLongerNeeded, .cancelled: nil
    case .storeFull: "check for clients that open connections in a loop"
    }
  }

  /// Whether it says for certain that nobody may be this identity any more, so that a certificate in hand goes too.
  var withdrawsCertificate: Bool {
    if case .identityNotGiven = self { true } else { false }
  }
}
