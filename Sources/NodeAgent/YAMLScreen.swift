/// Looks over YAML before a parser sees it, for what would cost the parser stack or time out of proportion: deep
/// nesting, and aliases, which can describe exponentially much in few bytes. Files of workloads need neither.
enum YAMLScreen {
  static let maximumDepth = 32

  /// The first line to object to.
  static func finding(in bytes: [UInt8]) -> (line: Int, reason: WorkloadFileError.Reason)? {
    var flowDepth = 0
    // Indentations of the blocks that are open, so that one space a line cannot nest without bound.
    var indents: [Int] = []
    for (index, line) in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false).enumerated() {
      var indent = 0
      var atStart = true
      var compactDepth = 0
      var before = UInt8(ascii: " ")
      for (position, byte) in line.enumerated() {
        if atStart {
          switch byte {
          case UInt8(ascii: " "), UInt8(ascii: "\t"): indent += 1
          case UInt8(ascii: "-"), UInt8(ascii: "?"), UInt8(ascii: ":"): compactDepth += 1
          default: atStart = false
          }
        }
        if byte == UInt8(ascii: "#"), before == UInt8(ascii: " ") || before == UInt8(ascii: "\t") { break }
        switch byte {
        case UInt8(ascii: "["), UInt8(ascii: "{"): flowDepth += 1
        case UInt8(ascii: "]"), UInt8(ascii: "}"): flowDepth = max(0, flowDepth - 1)
        case UInt8(ascii: "*"), UInt8(ascii: "&"):
          let next = line.dropFirst(position + 1).first ?? UInt8(ascii: " ")
          if " \t[{,-?:".utf8.contains(before), !" \t".utf8.contains(next) { return (index + 1, .alias) }
        default: break
        }
        if flowDepth > maximumDepth || compactDepth > maximumDepth { return (index + 1, .tooDeep) }
        before = byte
      }
      guard line.contains(where: { $0 != UInt8(ascii: " ") && $0 != UInt8(ascii: "\t") }) else { continue }
      while let last = indents.last, last >= indent { indents.removeLast() }
      indents.append(indent)
      if indents.count > maximumDepth { return (index + 1, .tooDeep) }
    }
    return nil
  }
}
