extension String {
  /// The text as it may be written to a terminal: control characters, which could move the cursor or change colours, are
  /// replaced. Line feeds stay.
  public var printable: String {
    guard unicodeScalars.contains(where: Self.isControl) else { return self }
    var result = ""
    for scalar in unicodeScalars { result.unicodeScalars.append(Self.isControl(scalar) ? "\u{fffd}" : scalar) }
    return result
  }

  private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
    switch scalar.value {
    case 0x0a: false
    // C0, delete and C1, and the marks that turn the direction of text around.
    case 0...0x1f, 0x7f...0x9f, 0x200e...0x200f, 0x202a...0x202e, 0x2066...0x2069: true
    default: false
    }
  }
}
