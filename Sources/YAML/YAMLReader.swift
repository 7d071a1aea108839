/// Reads YAML (and so JSON) with libyaml, into nodes that know their place.
///
/// The text may come from anyone: anchors are refused and depth is bounded while it is parsed, so that memory stays in
/// proportion to its size. Callers bound the size.
public enum YAMLReader {
  /// Deeper than any document that is read here.
  public static let maximumDepth = 64

  /// The first document; nil for a text without any.
  ///
  /// Throws ``YAMLError``. Documents that follow are refused.
  public static func document(_ text: some Collection<UInt8>) throws(YAMLError) -> YAMLNode? {
    try documents(text, limit: 1).first
  }

  /// All documents of a stream, `limit` at most. Throws ``YAMLError``.
  public static func documents(_ text: some Collection<UInt8>, limit: Int) throws(YAMLError) -> [YAMLNode] {
    let result =
      text.withContiguousStorageIfAvailable { read($0, limit) }
      ?? Array(text).withUnsafeBufferPointer { read($0, limit) }
    return try result.get()
  }

  private static func read(_ text: UnsafeBufferPointer<UInt8>, _ limit: Int) -> Result<[YAMLNode], YAMLError> {
    do throws(YAMLError) {
      let events = YAMLEvents(text)
      defer { events.end() }
      var composer = YAMLComposer(documentLimit: limit)
      while let event = try events.next() { try composer.receive(event) }
      return .success(composer.documents)
    } catch { return .failure(error) }
  }
}
