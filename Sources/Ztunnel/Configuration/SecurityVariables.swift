import GRPC
import TLS
import Vocabulary

/// The variables that say how strict TLS is and who vouches for workloads.
extension EnvironmentReader {
  /// `COMPLIANCE_POLICY` and `TLS12_ENABLED` (identity.md §10). What this machine's libssl cannot do is a problem.
  mutating func tlsProfile() -> TLSProfile {
    var profile = TLSProfile.standard
    switch value("COMPLIANCE_POLICY") {
    case nil, "": break
    case "pqc": profile.keyExchange = .hybrid
    case "fips-140-2": profile.keyExchange = .approvedCurves
    // Ignoring a word that somebody relies on would be worse than not starting (identity.md limit 13).
    default: report("COMPLIANCE_POLICY", "must be pqc or fips-140-2; unset it for neither")
    }
    // Exactly `true` switches it on, as with Istio; anything else is a mistake.
    profile.allowsTLS12 = bool("TLS12_ENABLED", default: false)
    do throws(TLSError) { try profile.check() } catch {
      report("COMPLIANCE_POLICY", [error.summary, error.remedy].compactMap { $0 }.joined(separator: "; "))
    }
    return profile
  }

  /// `CRL_PATH`; empty is unset.
  mutating func revocationListPath() -> String? {
    isGiven("CRL_PATH") ? path("CRL_PATH", "the path of a revocation list") : nil
  }

  /// The socket that `SPIFFE_ENDPOINT_SOCKET` names, `unix:///path` or `unix:/path` (SPIFFE Workload Endpoint §4).
  mutating func spiffeEndpoint() -> LocalEndpoint? {
    let name = "SPIFFE_ENDPOINT_SOCKET"
    guard let text = value(name), !text.isEmpty else { return nil }
    for other in ["LOCAL_CA_PATH", "CA_ADDRESS"] where isGiven(other) {
      report(name, "\(other) is set too: one of them is to vouch for workloads, unset the other")
    }
    let path = ["unix://", "unix:"].first { text.hasPrefix($0) }.map { text.dropFirst($0.count) }
    guard let path, path.hasPrefix("/"), let endpoint = LocalEndpoint(path: String(path), headers: [.workloadAPI])
    else {
      report(name, "must be unix:///path of at most \(LocalEndpoint.longestPath) bytes: TCP is not supported")
      return nil
    }
    return endpoint
  }
}
