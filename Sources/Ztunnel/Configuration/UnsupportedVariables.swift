extension EnvironmentReader {
  /// Refuses variables that ask for what this version cannot do: running without it unnoticed would be worse.
  mutating func refuseUnsupported() {
    let fakesAuthority = bool("FAKE_CA") == true
    refuse("FAKE_CA", if: fakesAuthority, "unset it and keep the authority in a directory, LOCAL_CA_PATH")
    refuseProxyMode()
    let isProxyOff = bool("ENABLE_PROXY") == false
    refuse("ENABLE_PROXY", if: isProxyOff, "unset it: the proxy is all that there is to run")
    let isOnDemand = bool("XDS_ON_DEMAND") == true
    refuse("XDS_ON_DEMAND", if: isOnDemand, "unset it: the mesh is always loaded whole")
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
