import Vocabulary

/// How the next hop's IP is found (services.md §5).
enum NextHopAddress: Equatable {
  case ip(IPAddress)
  /// No usable address, but a host name.
  case hostname(String)
  case none

  /// - Parameters:
  ///   - families: the rule of the service that `workload` was chosen from.
  ///   - original: the address the client asked for; it decides which family is preferred.
  init(of workload: Workload, families: Service.IPFamilies, original: IPAddress) {
    let addresses = workload.addresses
    if addresses.contains(original) {
      self = .ip(original)
      return
    }
    var fallback: IPAddress?
    for ip in addresses where families.accepts(ip.family) {
      if ip.family == original.family {
        self = .ip(ip)
        return
      }
      fallback = fallback ?? ip
    }
    if let fallback {
      self = .ip(fallback)
    } else if !workload.hostname.isEmpty {
      self = .hostname(workload.hostname)
    } else {
      self = .none
    }
  }
}
