/// The name of a chain, as the bytes the kernel holds.
///
/// Bytes, because a name read from the kernel need not be text, and a chain can only be changed under its exact name.
struct ChainName: Hashable, Sendable, ExpressibleByStringLiteral, CustomStringConvertible {
  let bytes: [UInt8]

  init(bytes: [UInt8]) { self.bytes = bytes }
  init(stringLiteral text: String) { bytes = Array(text.utf8) }

  /// Chains that belong to the mesh, whoever of the mesh wrote them; see ``ChainScope`` for which of them a plan is about.
  var isOfMesh: Bool { bytes.starts(with: "ISTIO_".utf8) }

  /// The name, with everything unprintable escaped.
  var description: String { printable(bytes) }

  static let preroutingRules: ChainName = "ISTIO_PRERT"
  static let outputRules: ChainName = "ISTIO_OUTPUT"
  static let plaintextWatch: ChainName = "ISTIO_WATCH"
  static let arrivalWatch: ChainName = "ISTIO_WATCH_IN"
  static let fenceInput: ChainName = "ISTIO_FENCE_IN"
  static let fenceOutput: ChainName = "ISTIO_FENCE_OUT"
  static let hostProbes: ChainName = "ISTIO_POSTRT"
}

/// Bytes from the kernel as one printable word.
func printable(_ bytes: some Sequence<UInt8>) -> String {
  bytes.map { byte in
    byte > 0x20 && byte < 0x7f && byte != UInt8(ascii: "\\")
      ? String(UnicodeScalar(byte)) : "\\x" + hexadecimal([byte])
  }.joined()
}

/// Two lowercase digits a byte.
func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
  bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
}
