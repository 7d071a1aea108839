import Vocabulary

/// Which revisions of the targets that have several this kernel is to be given.
struct ExtensionRevisions: Hashable, Sendable {
  /// 1 or 2.
  var connmarkTarget: UInt8 = 2
  /// 0, 1 or 2.
  var connectionTrackingTarget: UInt8 = 2
}

/// The data of the matches and targets this project writes (redirection.md §9.1).
///
/// Reading is strict: whatever would not be written back byte for byte the same way stays opaque, so an entry that only
/// looks like one of ours is never taken for it.
enum ExtensionCodec {
  // MARK: Matches

  static func encode(_ match: Match) -> OpaqueExtension {
    switch match {
    case .mark(let mark): return OpaqueExtension(name: Name.mark, revision: 1, data: encode(mark))
    case .connectionMark(let mark): return OpaqueExtension(name: Name.connmark, revision: 1, data: encode(mark))
    case .tcp(let ports):
      // spts, dpts, then option, flag mask, flag compare, inversions.
      var data = encode(ports, inversions: 11)
      if ports.opens {
        data.put(TCPFlag.opening, at: 9)
        data.put(TCPFlag.synchronise, at: 10)
      }
      return OpaqueExtension(name: Name.tcp, revision: 0, data: data)
    case .udp(let ports):
      return OpaqueExtension(name: Name.udp, revision: 0, data: encode(ports, inversions: 8))
    case .answer: return OpaqueExtension(name: Name.conntrack, revision: 3, data: answer)
    case .sentByProcess, .forwarded:
      // Ranges of users and groups, then what is compared, then what is inverted.
      let socketExists: UInt8 = 0x04
      var data = [UInt8](repeating: 0, count: 24)
      data.put(socketExists, at: 16)
      if match == .forwarded { data.put(socketExists, at: 17) }
      return OpaqueExtension(name: Name.owner, revision: 1, data: data)
    case .hopLimit(let limit, let family):
      // How it is compared (0: equal), then the number.
      return OpaqueExtension(
        name: family == .v4 ? Name.hopLimitV4 : Name.hopLimitV6, revision: 0, data: [0, limit, 0, 0, 0, 0, 0, 0])
    case .destinationInSet(let index):
      // Index, dimensions, flags; then conditions on counters, all "none".
      var data = [UInt8](repeating: 0, count: 48)
      data.put(index, at: 0)
      data.put(UInt8(1), at: 2)
      return OpaqueExtension(name: Name.set, revision: 4, data: data)
    case .opaque(let foreign): return foreign
    }
  }

  /// `xt_conntrack_mtinfo3`: eight addresses, two times, protocol and ports, then the flags.
  private static let answer: [UInt8] = {
    let comparesState: UInt16 = 0x0001
    let comparesDirection: UInt16 = 0x1000
    let established: UInt16 = 0x02
    let related: UInt16 = 0x04
    var data = [UInt8](repeating: 0, count: 168)
    data.put(comparesState | comparesDirection, at: 146)
    // Inverted: not the direction of who opened it.
    data.put(comparesDirection, at: 148)
    data.put(established | related, at: 150)
    return data
  }()

  static func match(_ found: OpaqueExtension) -> Match {
    let candidate: Match? =
      switch (found.name, found.revision) {
      case (Name.mark, 1): mark(found.data).map(Match.mark)
      case (Name.connmark, 1): mark(found.data).map(Match.connectionMark)
      case (Name.tcp, 0): ports(found.data, inversions: 11).map { .tcp(withOpening($0, found.data)) }
      case (Name.udp, 0): ports(found.data, inversions: 8).map(Match.udp)
      case (Name.conntrack, 3): .answer
      case (Name.owner, 1): found.data.number(UInt8.self, at: 17) == 0 ? .sentByProcess : .forwarded
      case (Name.hopLimitV4, 0): found.data.number(UInt8.self, at: 1).map { .hopLimit($0, .v4) }
      case (Name.hopLimitV6, 0): found.data.number(UInt8.self, at: 1).map { .hopLimit($0, .v6) }
      case (Name.set, 4): found.data.number(UInt16.self, at: 0).map(Match.destinationInSet)
      default: nil
      }
    if let candidate, encode(candidate) == found { return candidate }
    return .opaque(found)
  }

  private static func encode(_ mark: MarkMatch) -> [UInt8] {
    var data = [UInt8](repeating: 0, count: 16)
    data.put(mark.value, at: 0)
    data.put(mark.mask, at: 4)
    data.put(UInt8(mark.inverted ? 1 : 0), at: 8)
    return data
  }

  private static func mark(_ data: [UInt8]) -> MarkMatch? {
    guard let value = data.number(UInt32.self, at: 0), let mask = data.number(UInt32.self, at: 4),
      let inverted = data.number(UInt8.self, at: 8)
    else { return nil }
    return MarkMatch(value: value, mask: mask, inverted: inverted != 0)
  }

  private static func encode(_ ports: PortMatch, inversions: Int) -> [UInt8] {
    var data = [UInt8](repeating: 0, count: 16)
    data.put(ports.source?.low ?? 0, at: 0)
    data.put(ports.source?.high ?? .max, at: 2)
    data.put(ports.destination?.low ?? 0, at: 4)
    data.put(ports.destination?.high ?? .max, at: 6)
    let source: UInt8 = ports.source?.inverted == true ? 0x01 : 0
    let destination: UInt8 = ports.destination?.inverted == true ? 0x02 : 0
    data.put(source | destination, at: inversions)
    return data
  }

  private static func withOpening(_ ports: PortMatch, _ data: [UInt8]) -> PortMatch {
    var ports = ports
    ports.opens = data.number(UInt8.self, at: 9) == TCPFlag.opening
    return ports
  }

  /// Flags of the TCP header that `--syn` looks at.
  private enum TCPFlag {
    static let synchronise: UInt8 = 0x02
    /// FIN, SYN, RST, ACK.
    static let opening: UInt8 = 0x17
  }

  private static func ports(_ data: [UInt8], inversions: Int) -> PortMatch? {
    guard let bits = data.number(UInt8.self, at: inversions),
      let sourceLow = data.number(UInt16.self, at: 0), let sourceHigh = data.number(UInt16.self, at: 2),
      let destinationLow = data.number(UInt16.self, at: 4), let destinationHigh = data.number(UInt16.self, at: 6)
    else { return nil }
    func range(_ low: UInt16, _ high: UInt16, _ inverted: Bool) -> PortRange? {
      low == 0 && high == .max && !inverted ? nil : PortRange(low: low, high: high, inverted: inverted)
    }
    return PortMatch(
      source: range(sourceLow, sourceHigh, bits & 0x01 != 0),
      destination: range(destinationLow, destinationHigh, bits & 0x02 != 0))
  }

  // MARK: Targets

  /// The extension of a target, nil for verdicts and jumps.
  static func encode(_ target: Target, family: IPAddress.Family, revisions: ExtensionRevisions) -> OpaqueExtension? {
    switch target {
    case .accept, .drop, .queue, .returnToCaller, .fallThrough, .jump: return nil
    case .setConnectionMark(let value, let mask):
      return connmark(value, mask, packetMask: .max, mode: 0, revision: revisions.connmarkTarget)
    case .restoreMark(let packetMask, let connectionMask):
      return connmark(0, connectionMask, packetMask: packetMask, mode: 2, revision: revisions.connmarkTarget)
    case .redirect(let port): return redirect(port, family)
    case .connectionZone(let zone): return connectionTracking(zone, revisions.connectionTrackingTarget)
    case .rewriteSource(let address): return sourceRewrite(address)
    case .setHopLimit(let limit):
      // What is done (0: set), then the number.
      return OpaqueExtension(
        name: family == .v4 ? Name.setHopLimitV4 : Name.setHopLimitV6, revision: 0, data: [0, limit, 0, 0, 0, 0, 0, 0])
    case .opaque(let foreign): return foreign
    }
  }

  static func target(_ found: OpaqueExtension, family: IPAddress.Family) -> Target {
    var found = found
    var revisions = ExtensionRevisions()
    let candidate: Target?
    switch (found.name, found.revision) {
    case (Name.connmarkTarget, 1...2):
      revisions.connmarkTarget = found.revision
      candidate = connmark(found.data, revision: found.revision)
    case (Name.redirect, 0):
      candidate = found.data.number(UInt16.self, at: redirectPort(family)).map {
        .redirect(port: UInt16(bigEndian: $0))
      }
    case (Name.connectionTracking, 0...2):
      revisions.connectionTrackingTarget = found.revision
      // The last word is the kernel's own pointer.
      if found.data.count >= 8 { found.data.put(UInt64(0), at: found.data.count - 8) }
      candidate = found.data.number(UInt16.self, at: 2).map { .connectionZone($0) }
    case (family == .v4 ? Name.setHopLimitV4 : Name.setHopLimitV6, 0):
      candidate = found.data.number(UInt8.self, at: 1).map { .setHopLimit($0) }
    case (Name.sourceRewrite, family == .v4 ? 0 : 1):
      candidate = found.data.slice(family == .v4 ? 8 : 4, family == .v4 ? 4 : 16)
        .flatMap { IPAddress(bytes: $0) }.map { .rewriteSource($0) }
    default: candidate = nil
    }
    if let candidate, encode(candidate, family: family, revisions: revisions) == found { return candidate }
    return .opaque(found)
  }

  private static func connmark(
    _ value: UInt32, _ mask: UInt32, packetMask: UInt32, mode: UInt8, revision: UInt8
  ) -> OpaqueExtension {
    var data = [UInt8](repeating: 0, count: 16)
    data.put(value, at: 0)
    data.put(mask, at: 4)
    data.put(packetMask, at: 8)
    // Revision 2 put shift direction and width before the mode.
    data.put(mode, at: revision == 2 ? 14 : 12)
    return OpaqueExtension(name: Name.connmarkTarget, revision: revision, data: data)
  }

  private static func connmark(_ data: [UInt8], revision: UInt8) -> Target? {
    guard let value = data.number(UInt32.self, at: 0), let mask = data.number(UInt32.self, at: 4),
      let packetMask = data.number(UInt32.self, at: 8), let mode = data.number(UInt8.self, at: revision == 2 ? 14 : 12)
    else { return nil }
    switch mode {
    case 0: return .setConnectionMark(value: value, mask: mask)
    case 2: return .restoreMark(packetMask: packetMask, connectionMask: mask)
    default: return nil
    }
  }

  /// IPv4: `nf_nat_ipv4_multi_range_compat` with one range; IPv6: `nf_nat_range`. Ports in network order.
  private static func redirect(_ port: UInt16, _ family: IPAddress.Family) -> OpaqueExtension {
    let portsAreGiven: UInt32 = 2
    let offset = redirectPort(family)
    var data = [UInt8](repeating: 0, count: family == .v4 ? 24 : 40)
    if family == .v4 { data.put(UInt32(1), at: 0) }
    data.put(portsAreGiven, at: family == .v4 ? 4 : 0)
    data.put(port.bigEndian, at: offset)
    data.put(port.bigEndian, at: offset + 2)
    return OpaqueExtension(name: Name.redirect, revision: 0, data: data)
  }

  private static func redirectPort(_ family: IPAddress.Family) -> Int { family == .v4 ? 16 : 36 }

  /// The same structures as in ``redirect(_:_:)``, with one address instead of a port.
  private static func sourceRewrite(_ address: IPAddress) -> OpaqueExtension {
    let addressesAreGiven: UInt32 = 1
    let isV4 = address.family == .v4
    var data = [UInt8](repeating: 0, count: isV4 ? 24 : 40)
    if isV4 { data.put(UInt32(1), at: 0) }
    data.put(addressesAreGiven, at: isV4 ? 4 : 0)
    data.put(address.bytes, at: isV4 ? 8 : 4)
    data.put(address.bytes, at: isV4 ? 12 : 20)
    return OpaqueExtension(name: Name.sourceRewrite, revision: isV4 ? 0 : 1, data: data)
  }

  private static func connectionTracking(_ zone: UInt16, _ revision: UInt8) -> OpaqueExtension {
    // Revision 1 added the name of a timeout policy.
    var data = [UInt8](repeating: 0, count: revision == 0 ? 40 : 72)
    data.put(zone, at: 2)
    return OpaqueExtension(name: Name.connectionTracking, revision: revision, data: data)
  }

  private enum Name {
    static let mark = Array("mark".utf8)
    static let connmark = Array("connmark".utf8)
    static let tcp = Array("tcp".utf8)
    static let udp = Array("udp".utf8)
    static let conntrack = Array("conntrack".utf8)
    static let owner = Array("owner".utf8)
    static let set = Array("set".utf8)
    static let hopLimitV4 = Array("ttl".utf8)
    static let hopLimitV6 = Array("hl".utf8)
    static let setHopLimitV4 = Array("TTL".utf8)
    static let setHopLimitV6 = Array("HL".utf8)
    static let sourceRewrite = Array("SNAT".utf8)
    static let connmarkTarget = Array("CONNMARK".utf8)
    static let redirect = Array("REDIRECT".utf8)
    static let connectionTracking = Array("CT".utf8)
  }
}
