import Mesh

/// What of a portion of a response is kept for a restart: the resources whose names are in force, as they came, and the names
/// of what is gone. Where a name comes several times, the last word counts.
public struct RetainedPortion: Equatable, Sendable {
  public struct Entry: Equatable, Sendable {
    public let name: String
    /// The resource's message, with its version; nil where it is gone.
    public let resource: [UInt8]?

    public init(name: String, resource: [UInt8]?) {
      self.name = name
      self.resource = resource
    }
  }

  public let typeURL: String
  public private(set) var entries: [Entry]

  public init(typeURL: String, entries: [Entry] = []) {
    self.typeURL = typeURL
    self.entries = entries
  }

  mutating func keep(_ resource: DeltaResponse.Resource, of response: DeltaResponse) {
    entries.append(Entry(name: resource.name, resource: response.message(of: resource)))
  }

  /// Keeps a policy that `change` stands in for; where nothing does, it is gone.
  mutating func keep(_ resource: DeltaResponse.Resource, of response: DeltaResponse, standingIn change: MeshChange) {
    if case .removePolicy = change { drop(resource.name) } else { keep(resource, of: response) }
  }

  mutating func drop(_ name: String) { entries.append(Entry(name: name, resource: nil)) }

  // MARK: As a response

  /// The same as a response of the control plane, for ``DeltaSubscription/restore(_:into:)``. Its removals are read last, so
  /// that it has each name once.
  public var encoded: [UInt8] {
    var last: [String: Int] = [:]
    for (index, entry) in entries.enumerated() { last[entry.name] = index }
    var bytes: [UInt8] = []
    bytes.reserveCapacity(entries.reduce(256) { $0 + 16 + ($1.resource?.count ?? $1.name.utf8.count) })
    Self.append(field: 4, Array(typeURL.utf8), to: &bytes)
    for (index, entry) in entries.enumerated() where last[entry.name] == index {
      if let resource = entry.resource {
        Self.append(field: 2, resource, to: &bytes)
      } else {
        Self.append(field: 6, Array(entry.name.utf8), to: &bytes)
      }
    }
    return bytes
  }

  /// The other way round; nil where the bytes are none that ``encoded`` has made.
  public init?(encoded bytes: [UInt8]) {
    var (typeURL, entries): (String, [Entry]) = ("", [])
    var fields = MessageFields(bytes)
    do throws(MessageFields.Malformed) {
      while let (number, content) = try fields.next() {
        guard case .bytes(let range) = content else { return nil }
        switch number {
        case 2:
          guard let name = try Self.name(of: range, in: bytes) else { return nil }
          entries.append(Entry(name: name, resource: Array(bytes[range])))
        case 4:
          guard let text = bytes.text(range) else { return nil }
          typeURL = text
        case 6:
          guard let name = bytes.text(range) else { return nil }
          entries.append(Entry(name: name, resource: nil))
        default: return nil
        }
      }
    } catch { return nil }
    self.init(typeURL: typeURL, entries: entries)
  }

  private static func name(of range: Range<Int>, in bytes: [UInt8]) throws(MessageFields.Malformed) -> String? {
    var name: String? = ""
    var fields = MessageFields(bytes, range)
    while let (number, content) = try fields.next() {
      if number == 3, case .bytes(let range) = content { name = bytes.text(range) }
    }
    return name
  }

  private static func append(field: UInt8, _ content: [UInt8], to bytes: inout [UInt8]) {
    bytes.append(field << 3 | 2)
    var count = content.count
    while count > 0x7f {
      bytes.append(UInt8(truncatingIfNeeded: count & 0x7f | 0x80))
      count >>= 7
    }
    bytes.append(UInt8(truncatingIfNeeded: count))
    bytes += content
  }
}
