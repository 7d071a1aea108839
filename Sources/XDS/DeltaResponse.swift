import Vocabulary

/// One response of the control plane (xds.md §2), as it came: its resources are read one after the other, so that a
/// response of a whole mesh is never in memory a second time.
struct DeltaResponse {
  /// One resource, undecoded.
  struct Resource {
    var name = ""
    var version = ""
    var aliases: [String] = []
    /// The content; nil where there is none, or where the resource is no message.
    var value: [UInt8]?
    /// Where the message lies in the response.
    fileprivate var range = 0..<0
  }

  private let bytes: [UInt8]
  private(set) var typeURL = ""
  private(set) var nonce = ""
  private(set) var resourceCount = 0
  private(set) var removedCount = 0
  private var rest: MessageFields
  private var restOfRemoved: MessageFields

  /// Reads all but the resources and the names of what is gone. Throws where the bytes are no response.
  init(_ bytes: [UInt8]) throws(MessageFields.Malformed) {
    self.bytes = bytes
    rest = MessageFields(bytes)
    restOfRemoved = rest
    var fields = MessageFields(bytes)
    while let (number, content) = try fields.next() {
      guard case .bytes(let range) = content else { continue }
      switch number {
      case 2: resourceCount += 1
      case 4: typeURL = try Self.text(bytes, range)
      case 5: nonce = try Self.text(bytes, range)
      case 6:
        _ = try Self.text(bytes, range)
        removedCount += 1
      default: continue
      }
    }
  }

  private static func text(_ bytes: [UInt8], _ range: Range<Int>) throws(MessageFields.Malformed) -> String {
    guard let text = bytes.text(range) else { throw MessageFields.Malformed() }
    return text
  }

  /// The next resource; nil after the last.
  mutating func next() -> Resource? {
    // The fields were gone through once, so that none of them is malformed.
    while let field = try? rest.next() {
      guard field.number == 2, case .bytes(let range) = field.content else { continue }
      do throws(MessageFields.Malformed) { return try resource(range) } catch { return Resource() }
    }
    return nil
  }

  /// The next name of what is gone; nil after the last.
  mutating func nextRemoved() -> String? {
    while let field = try? restOfRemoved.next() {
      if field.number == 6, case .bytes(let range) = field.content { return bytes.text(range) }
    }
    return nil
  }

  /// The bytes of a resource of this response; none where it is no message.
  func message(of resource: Resource) -> [UInt8] { Array(bytes[resource.range]) }

  private func resource(_ range: Range<Int>) throws(MessageFields.Malformed) -> Resource {
    var resource = Resource()
    resource.range = range
    var fields = MessageFields(bytes, range)
    while let (number, content) = try fields.next() {
      guard case .bytes(let range) = content else { continue }
      switch number {
      case 1: resource.version = try Self.text(bytes, range)
      case 2: resource.value = try Self.content(of: range, in: bytes)
      case 3: resource.name = try Self.text(bytes, range)
      case 4: resource.aliases.append(try Self.text(bytes, range))
      default: continue
      }
    }
    return resource
  }

  /// The bytes inside of a google.protobuf.Any.
  private static func content(of range: Range<Int>, in bytes: [UInt8]) throws(MessageFields.Malformed) -> [UInt8] {
    var value: [UInt8] = []
    var fields = MessageFields(bytes, range)
    while let (number, content) = try fields.next() {
      if number == 2, case .bytes(let range) = content { value = Array(bytes[range]) }
    }
    return value
  }
}
