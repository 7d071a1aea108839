import Vocabulary

/// Which addresses of host names one connection has tried, and which it tries next.
struct AddressChoice {
  private var tried: Set<IPAddress> = []
  /// The name picked from last has addresses that were not tried.
  private(set) var hasOther = false

  /// Any address of `family` at random, else any (services.md §5.1); those not tried before come first. Nil when there
  /// is none.
  mutating func pick(
    from addresses: [IPAddress], _ family: IPAddress.Family, using random: inout some RandomNumberGenerator
  ) -> IPAddress? {
    let fresh = addresses.filter { !tried.contains($0) }
    let candidates = fresh.isEmpty ? addresses : fresh
    let preferred = candidates.filter { $0.family == family }
    guard let ip = (preferred.isEmpty ? candidates : preferred).randomElement(using: &random) else { return nil }
    tried.insert(ip)
    hasOther = fresh.count > 1
    return ip
  }

  /// What is picked next is not one of a name's.
  mutating func leaveName() { hasOther = false }
}
