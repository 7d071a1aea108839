import Vocabulary

/// Rules in the words of `iptables-save`. Foreign extensions, whose words only their own library knows, are shown as
/// `--revision` and `--data`.
extension Rule {
  /// `-A CHAIN ...`.
  func text(in chain: ChainName) -> String {
    var words = ["-A \(chain)"]
    if let source { words.append(source.text("-s")) }
    if let destination { words.append(destination.text("-d")) }
    if let input { words.append(input.text("-i")) }
    if let output { words.append(output.text("-o")) }
    if let transport { words.append(transport.text) }
    if remainder != HeaderRemainder() { words.append(remainder.text) }
    words += matches.map(\.text)
    if target != .fallThrough { words.append(target.text) }
    return words.joined(separator: " ")
  }
}

private func optional(_ inverted: Bool, _ words: String) -> String { inverted ? "! " + words : words }

private func hex(_ value: some BinaryInteger) -> String { "0x" + String(value, radix: 16) }

extension AddressMatch {
  fileprivate func text(_ option: String) -> String {
    optional(inverted, "\(option) \(address)/\(prefixLength.map(String.init) ?? "\(mask)")")
  }

  /// Nil for a mask with holes.
  private var prefixLength: Int? {
    switch mask {
    case .v4(let bits): (~bits).leadingZeroBitCount + bits.trailingZeroBitCount >= 32 ? bits.nonzeroBitCount : nil
    case .v6:
      mask.bytes.drop { $0 == 0xff }.dropFirst().allSatisfy { $0 == 0 }
        && mask.bytes.allSatisfy { (~$0 &+ 1) & ~$0 == 0 }
        ? mask.bytes.reduce(0) { $0 + $1.nonzeroBitCount } : nil
    }
  }
}

extension InterfaceMatch {
  fileprivate func text(_ option: String) -> String {
    let compared = mask.prefix { $0 == 0xff }.count
    guard mask.dropFirst(compared).allSatisfy({ $0 == 0 }) else {
      return optional(inverted, "\(option) \(hexadecimal(name))/\(hexadecimal(mask))")
    }
    let end = name.prefix(compared).firstIndex(of: 0)
    let word = printable(name.prefix(end ?? compared))
    return optional(inverted, "\(option) \(end == nil && compared < Self.width ? word + "+" : word)")
  }
}

extension ProtocolMatch {
  private static let names: [UInt16: String] = [
    1: "icmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 50: "esp", 51: "ah", 58: "ipv6-icmp", 132: "sctp",
    136: "udplite",
  ]

  fileprivate var text: String { optional(inverted, "-p \(Self.names[number] ?? String(number))") }
}

extension HeaderRemainder {
  fileprivate var text: String {
    "--header-flags \(hex(flags))/\(hex(inversions))/\(hex(typeOfService))/\(unusedProtocol)"
  }
}

extension Match {
  fileprivate var text: String {
    switch self {
    case .mark(let mark): "-m mark \(mark.text)"
    case .connectionMark(let mark): "-m connmark \(mark.text)"
    case .tcp(let ports): "-m tcp\(ports.text)"
    case .udp(let ports): "-m udp\(ports.text)"
    case .answer: "-m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY"
    case .sentByProcess: "-m owner --socket-exists"
    case .forwarded: "-m owner ! --socket-exists"
    case .hopLimit(let limit, .v4): "-m ttl --ttl-eq \(limit)"
    case .hopLimit(let limit, .v6): "-m hl --hl-eq \(limit)"
    case .destinationInSet(let index): "-m set --match-set #\(index) dst"
    case .opaque(let foreign): "-m \(foreign.text)"
    }
  }
}

extension MarkMatch {
  fileprivate var text: String {
    optional(inverted, mask == .max ? "--mark \(hex(value))" : "--mark \(hex(value))/\(hex(mask))")
  }
}

extension PortMatch {
  fileprivate var text: String {
    (source.map { " " + $0.text("--sport") } ?? "") + (destination.map { " " + $0.text("--dport") } ?? "")
      + (opens ? " --tcp-flags FIN,SYN,RST,ACK SYN" : "")
  }
}

extension PortRange {
  fileprivate func text(_ option: String) -> String {
    optional(inverted, low == high ? "\(option) \(low)" : "\(option) \(low):\(high)")
  }
}

extension Target {
  fileprivate var text: String {
    switch self {
    case .accept: "-j ACCEPT"
    case .drop: "-j DROP"
    case .queue: "-j QUEUE"
    case .returnToCaller: "-j RETURN"
    case .fallThrough: ""
    case .jump(let chain, let isGoto): "\(isGoto ? "-g" : "-j") \(chain)"
    case .setConnectionMark(let value, let mask): "-j CONNMARK --set-xmark \(hex(value))/\(hex(mask))"
    case .restoreMark(let packetMask, let connectionMask):
      "-j CONNMARK --restore-mark --nfmask \(hex(packetMask)) --ctmask \(hex(connectionMask))"
    case .redirect(let port): "-j REDIRECT --to-ports \(port)"
    case .connectionZone(let zone): "-j CT --zone \(zone)"
    case .rewriteSource(let address): "-j SNAT --to-source \(address)"
    case .setHopLimit(let limit): "-j hop limit \(limit)"
    case .opaque(let foreign): "-j \(foreign.text)"
    }
  }
}

extension OpaqueExtension {
  fileprivate var text: String { "\(printable(name)) --revision \(revision) --data 0x\(hexadecimal(data))" }
}
