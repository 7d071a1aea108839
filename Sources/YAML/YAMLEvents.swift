import CYAML

/// What libyaml's parser says, copied out of its memory.
struct YAMLEvent {
  enum Kind {
    case scalar(String, isPlain: Bool)
    case sequenceStart
    case sequenceEnd
    case mappingStart
    case mappingEnd
    case documentStart
    case documentEnd
    case alias
  }

  let kind: Kind
  var tag: String?
  var isAnchored = false
  let mark: YAMLMark
}

/// libyaml's parser over a text that outlives it.
final class YAMLEvents {
  private let parser = UnsafeMutablePointer<yaml_parser_t>.allocate(capacity: 1)
  private let isUsable: Bool

  init(_ text: UnsafeBufferPointer<UInt8>) {
    parser.initialize(to: yaml_parser_t())
    isUsable = yaml_parser_initialize(parser) == 1
    guard isUsable else { return }
    // Otherwise the first bytes could choose another encoding.
    yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING)
    yaml_parser_set_input_string(parser, text.baseAddress, text.count)
  }

  func end() {
    if isUsable { yaml_parser_delete(parser) }
    parser.deinitialize(count: 1)
    parser.deallocate()
  }

  /// Nil at the end of the stream.
  func next() throws(YAMLError) -> YAMLEvent? {
    guard isUsable else { throw .syntax(YAMLMark(line: 1, column: 1), "no memory to parse it") }
    while true {
      var event = yaml_event_t()
      guard yaml_parser_parse(parser, &event) == 1 else { throw problem }
      defer { yaml_event_delete(&event) }
      let mark = YAMLMark(event.start_mark)
      switch event.type {
      case YAML_STREAM_START_EVENT: continue
      case YAML_DOCUMENT_START_EVENT: return YAMLEvent(kind: .documentStart, mark: mark)
      case YAML_DOCUMENT_END_EVENT: return YAMLEvent(kind: .documentEnd, mark: mark)
      case YAML_ALIAS_EVENT: return YAMLEvent(kind: .alias, mark: mark)
      case YAML_SCALAR_EVENT:
        let scalar = event.data.scalar
        let text = UnsafeBufferPointer(start: scalar.value, count: scalar.length)
        return YAMLEvent(
          kind: .scalar(String(decoding: text, as: UTF8.self), isPlain: scalar.style == YAML_PLAIN_SCALAR_STYLE),
          tag: Self.text(scalar.tag), isAnchored: scalar.anchor != nil, mark: mark)
      case YAML_SEQUENCE_START_EVENT:
        let start = event.data.sequence_start
        return YAMLEvent(
          kind: .sequenceStart, tag: Self.text(start.tag), isAnchored: start.anchor != nil, mark: mark)
      case YAML_MAPPING_START_EVENT:
        let start = event.data.mapping_start
        return YAMLEvent(
          kind: .mappingStart, tag: Self.text(start.tag), isAnchored: start.anchor != nil, mark: mark)
      case YAML_SEQUENCE_END_EVENT: return YAMLEvent(kind: .sequenceEnd, mark: mark)
      case YAML_MAPPING_END_EVENT: return YAMLEvent(kind: .mappingEnd, mark: mark)
      default: return nil
      }
    }
  }

  private var problem: YAMLError {
    let reason = parser.pointee.problem.map { String(cString: $0) } ?? "the text cannot be read"
    // The reader knows its place in bytes, not in lines; the parser has come as far as the line before.
    let mark = parser.pointee.error == YAML_READER_ERROR ? parser.pointee.mark : parser.pointee.problem_mark
    return .syntax(YAMLMark(mark), reason)
  }

  private static func text(_ pointer: UnsafeMutablePointer<UInt8>?) -> String? {
    pointer.map { String(cString: $0) }
  }
}

extension YAMLMark {
  fileprivate init(_ mark: yaml_mark_t) { self.init(line: Int(mark.line) + 1, column: Int(mark.column) + 1) }
}
