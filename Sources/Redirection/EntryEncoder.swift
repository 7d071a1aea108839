import Vocabulary

/// Rules as the entries that libiptc takes.
///
/// Verdicts and chains are written as names: libiptc turns them into the kernel's numbers (redirection.md §9.3 item 2).
struct EntryEncoder {
  let family: IPAddress.Family
  var revisions = ExtensionRevisions()

  func entry(_ rule: Rule) -> [UInt8] {
    let layout = EntryLayout.of(family)
    let matches = rule.matches.flatMap { item(ExtensionCodec.encode($0)) }
    let target = target(rule.target)
    var entry = header(rule, layout)
    entry.put(UInt16(layout.size + matches.count), at: layout.targetOffset)
    entry.put(UInt16(layout.size + matches.count + target.count), at: layout.nextOffset)
    return entry + matches + target
  }

  private func header(_ rule: Rule, _ layout: EntryLayout) -> [UInt8] {
    var entry = [UInt8](repeating: 0, count: layout.size)
    var flags = rule.remainder.flags
    var inversions = rule.remainder.inversions
    func note(_ bit: UInt8, _ inverted: Bool) { if inverted { inversions |= bit } }

    if let source = rule.source {
      entry.put(source.address.bytes, at: layout.source)
      entry.put(source.mask.bytes, at: layout.sourceMask)
      note(EntryLayout.Inversion.source, source.inverted)
    }
    if let destination = rule.destination {
      entry.put(destination.address.bytes, at: layout.destination)
      entry.put(destination.mask.bytes, at: layout.destinationMask)
      note(EntryLayout.Inversion.destination, destination.inverted)
    }
    if let input = rule.input {
      entry.put(input.name, at: layout.input)
      entry.put(input.mask, at: layout.inputMask)
      note(EntryLayout.Inversion.input, input.inverted)
    }
    if let output = rule.output {
      entry.put(output.name, at: layout.output)
      entry.put(output.mask, at: layout.outputMask)
      note(EntryLayout.Inversion.output, output.inverted)
    }
    if let transport = rule.transport {
      entry.put(transport.number, at: layout.transport)
      flags |= layout.protocolFlag
      note(EntryLayout.Inversion.transport, transport.inverted)
    } else {
      entry.put(rule.remainder.unusedProtocol, at: layout.transport)
    }
    if case .jump(_, isGoto: true) = rule.target { flags |= layout.gotoFlag }
    if let offset = layout.typeOfService { entry.put(rule.remainder.typeOfService, at: offset) }
    entry.put(flags, at: layout.flags)
    entry.put(inversions, at: layout.inversions)
    return entry
  }

  private func target(_ target: Target) -> [UInt8] {
    if let found = ExtensionCodec.encode(target, family: family, revisions: revisions) { return item(found) }
    let name: [UInt8]
    switch target {
    case .accept: name = Array("ACCEPT".utf8)
    case .drop: name = Array("DROP".utf8)
    case .queue: name = Array("QUEUE".utf8)
    case .returnToCaller: name = Array("RETURN".utf8)
    case .jump(let chain, _): name = chain.bytes
    default: name = []
    }
    return item(
      OpaqueExtension(
        name: name, revision: 0,
        data: Array(repeating: 0, count: EntryLayout.standardTargetSize - EntryLayout.extensionHeader)))
  }

  private func item(_ found: OpaqueExtension) -> [UInt8] {
    let size = EntryLayout.extensionHeader + EntryLayout.aligned(found.data.count)
    var bytes = [UInt8](repeating: 0, count: size)
    bytes.put(UInt16(size), at: 0)
    bytes.put(Array(found.name.prefix(EntryLayout.extensionNameCapacity - 1)), at: EntryLayout.extensionName)
    bytes.put(found.revision, at: EntryLayout.extensionRevision)
    bytes.put(found.data, at: EntryLayout.extensionHeader)
    return bytes
  }
}
