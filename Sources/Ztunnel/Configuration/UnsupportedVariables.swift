extension EnvironmentReader {
  /// Refuses variables that ask for what this version cannot do: running without it unnoticed would be worse.
  mutating func refuseUnsupported() {
    let fakesAuthority = bool("FAKE_CA") == true
    refuse("FAKE_CA", if: fakesAuthority, "unset it and keep the authority in a directory, LOCAL_CA_PATH")
    refuse("PROXY_CONFIG", if: isGiven("PROXY_CONFIG"), "unset it and use single variables")
    refuseProxyMode()
    let isProxyOff = bool("ENABLE_PROXY") == false
    refuse("ENABLE_PROXY", if: isProxyOff, "unset it: the proxy is all that there is to run")
    refuse("CRL_PATH", if: isGiven("CRL_PATH"), "unset it: revocation lists are not checked")
    let hasCompliance = isGiven("COMPLIANCE_POLICY")
    refuse("COMPLIANCE_POLICY", if: hasCompliance, "unset it: key exchange is that of TLS 1.3")
    let allowsTLS12 = bool("TLS12_ENABLED") == true
    refuse("TLS12_ENABLED", if: allowsTLS12, "unset it: tunnels use TLS 1.3 only")
  }

  private mutating func refuseProxyMode() {
    switch value("PROXY_MODE") {
    case nil, "shared": break
    case "dedicated":
      report("PROXY_MODE", "not supported by this version: unset it or set it to shared")
    default:
      report("PROXY_MODE", "must be shared")
    }
  }

  private mutating func refuse(_ name: String, if isAsked: Bool, _ remedy: String) {
    if isAsked { report(name, "not supported by this version: \(remedy)") }
  }
}
