import Vocabulary

/// Entries that the kernel gave, as rules. Every offset is checked: the bytes are foreign.
struct EntryDecoder {
  let family: IPAddress.Family

  /// Why bytes are no entry.
  enum Malformation: String, Error, Equatable {
    case shorterThanHeader, wrongLength, targetOffsetOutside, matchSizeOutside, targetSizeOutside
  }

  /// The rule in `bytes`. `targetName` is what libiptc says the target is called: only it can resolve verdict numbers and
  /// chain offsets. Throws when an offset or a size does not fit.
  func rule(_ bytes: [UInt8], targetName: [UInt8]) throws(Malformation) -> Rule {
    let layout = EntryLayout.of(family)
    guard bytes.count >= layout.size else { throw .shorterThanHeader }
    guard let next = bytes.number(UInt16.self, at: layout.nextOffset), Int(next) == bytes.count else {
      throw .wrongLength
    }
    guard let offset = bytes.number(UInt16.self, at: layout.targetOffset).map(Int.init), offset >= layout.size,
      offset + EntryLayout.extensionHeader <= bytes.count
    else { throw .targetOffsetOutside }

    var matches: [Match] = []
    var position = layout.size
    while position < offset {
      guard let (found, size) = item(bytes, at: position, end: offset) else { throw .matchSizeOutside }
      matches.append(ExtensionCodec.match(found))
      position += size
    }
    guard let (found, size) = item(bytes, at: offset, end: bytes.count), offset + size == bytes.count else {
      throw .targetSizeOutside
    }
    return header(bytes, layout, matches: matches, found: found, targetName: targetName)
  }

  /// The match or target at `position` and its size; nil when it is too small, or reaches past `end`.
  private func item(_ bytes: [UInt8], at position: Int, end: Int) -> (OpaqueExtension, size: Int)? {
    guard let size = bytes.number(UInt16.self, at: position).map(Int.init), size >= EntryLayout.extensionHeader,
      size <= end - position,
      let name = bytes.terminated(
        at: position + EntryLayout.extensionName, capacity: EntryLayout.extensionNameCapacity),
      let revision = bytes.number(UInt8.self, at: position + EntryLayout.extensionRevision),
      let data = bytes.slice(position + EntryLayout.extensionHeader, size - EntryLayout.extensionHeader)
    else { return nil }
    return (OpaqueExtension(name: name, revision: revision, data: data), size)
  }

  private func header(
    _ bytes: [UInt8], _ layout: EntryLayout, matches: [Match], found: OpaqueExtension, targetName: [UInt8]
  ) -> Rule {
    // The fixed part is inside, so these defaults are never used.
    var flags = bytes.number(UInt8.self, at: layout.flags) ?? 0
    var inversions = bytes.number(UInt8.self, at: layout.inversions) ?? 0
    func take(_ bit: UInt8, _ from: inout UInt8) -> Bool {
      defer { from &= ~bit }
      return from & bit != 0
    }
    func address(_ value: Int, _ mask: Int, _ bit: UInt8) -> AddressMatch? {
      guard let address = bytes.slice(value, layout.addressSize).flatMap({ IPAddress(bytes: $0) }),
        let mask = bytes.slice(mask, layout.addressSize).flatMap({ IPAddress(bytes: $0) })
      else { return nil }
      let inverted = take(bit, &inversions)
      guard mask != .any(family) || address != .any(family) || inverted else { return nil }
      return AddressMatch(address: address, mask: mask, inverted: inverted)
    }
    func interface(_ name: Int, _ mask: Int, _ bit: UInt8) -> InterfaceMatch? {
      guard let name = bytes.slice(name, InterfaceMatch.width), let mask = bytes.slice(mask, InterfaceMatch.width)
      else { return nil }
      let inverted = take(bit, &inversions)
      guard inverted || mask.contains(where: { $0 != 0 }) else { return nil }
      return InterfaceMatch(name: name, mask: mask, inverted: inverted)
    }

    let isGoto = take(layout.gotoFlag, &flags)
    var rule = Rule(target: target(found, targetName, isGoto: isGoto))
    // Without a chain to go to, the flag means nothing; it is still part of what is there.
    if isGoto, rule.destinationChain == nil { flags |= layout.gotoFlag }
    rule.source = address(layout.source, layout.sourceMask, EntryLayout.Inversion.source)
    rule.destination = address(layout.destination, layout.destinationMask, EntryLayout.Inversion.destination)
    rule.input = interface(layout.input, layout.inputMask, EntryLayout.Inversion.input)
    rule.output = interface(layout.output, layout.outputMask, EntryLayout.Inversion.output)
    rule.matches = matches

    let number = bytes.number(UInt16.self, at: layout.transport) ?? 0
    let compared = layout.protocolFlag == 0 ? number != 0 : take(layout.protocolFlag, &flags)
    if compared {
      rule.transport = ProtocolMatch(number: number, inverted: take(EntryLayout.Inversion.transport, &inversions))
    } else {
      rule.remainder.unusedProtocol = number
    }
    rule.remainder.typeOfService = layout.typeOfService.flatMap { bytes.number(UInt8.self, at: $0) } ?? 0
    rule.remainder.flags = flags
    rule.remainder.inversions = inversions
    return rule
  }

  /// Verdicts and jumps have no name of their own in the kernel.
  private func target(_ found: OpaqueExtension, _ targetName: [UInt8], isGoto: Bool) -> Target {
    guard found.name.isEmpty else { return ExtensionCodec.target(found, family: family) }
    switch String(decoding: targetName, as: UTF8.self) {
    case "ACCEPT": return .accept
    case "DROP": return .drop
    case "QUEUE": return .queue
    case "RETURN": return .returnToCaller
    case "": return .fallThrough
    default: return .jump(ChainName(bytes: targetName), isGoto: isGoto)
    }
  }
}
