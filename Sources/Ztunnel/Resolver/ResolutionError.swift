import Vocabulary

/// Why a host name gave no address.
enum ResolutionError: CodedError, Hashable {
  /// The name does not exist, or has no addresses.
  case notFound
  /// The name servers did not answer, or answered with an error; the text is the system's.
  case failed(String)
  /// No answer within this many seconds.
  case timeout(seconds: Int64)
  /// More names are being looked up than is allowed at once.
  case tooManyLookups

  var code: String {
    switch self {
    case .notFound: "NAME_NOT_FOUND"
    case .failed: "NAME_LOOKUP_FAILED"
    case .timeout: "NAME_LOOKUP_TIMEOUT"
    case .tooManyLookups: "TOO_MANY_NAME_LOOKUPS"
    }
  }

  var summary: String {
    switch self {
    case .notFound: "the name has no addresses"
    case .failed(let reason): "the lookup failed: \(reason)"
    case .timeout(let seconds): "no answer within \(seconds)s"
    case .tooManyLookups: "too many names are being looked up"
    }
  }

  var remedy: String? {
    switch self {
    case .notFound: nil
    case .failed, .timeout: "check the name servers in the proxy's /etc/resolv.conf"
    case .tooManyLookups: "check that the name servers answer in time"
    }
  }
}
