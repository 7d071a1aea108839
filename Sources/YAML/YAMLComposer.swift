/// Makes nodes of a parser's events, without recursion.
struct YAMLComposer {
  fileprivate struct Open {
    let tag: String?
    let mark: YAMLMark
    let isMapping: Bool
    var elements: [YAMLNode] = []
    /// The scalar keys of a mapping.
    var keys: Set<String> = []
  }

  private let documentLimit: Int
  fileprivate var open: [Open] = []
  private(set) var documents: [YAMLNode] = []

  init(documentLimit: Int) { self.documentLimit = documentLimit }

  mutating func receive(_ event: YAMLEvent) throws(YAMLError) {
    if event.isAnchored { throw .anchor(event.mark) }
    switch event.kind {
    case .documentStart:
      if documents.count == documentLimit { throw .tooManyDocuments(event.mark, limit: documentLimit) }
    case .documentEnd: break
    case .alias: throw .anchor(event.mark)
    case .scalar(let text, let isPlain):
      try add(YAMLNode(.scalar(text, isPlain: isPlain), tag: event.tag, mark: event.mark))
    case .sequenceStart, .mappingStart:
      if open.count == YAMLReader.maximumDepth { throw .tooDeep(event.mark, limit: YAMLReader.maximumDepth) }
      let isMapping = if case .mappingStart = event.kind { true } else { false }
      open.append(Open(tag: event.tag, mark: event.mark, isMapping: isMapping))
    case .sequenceEnd, .mappingEnd:
      guard let last = open.popLast() else { return }
      try add(YAMLNode(last.content, tag: last.tag, mark: last.mark))
    }
  }

  private mutating func add(_ node: YAMLNode) throws(YAMLError) {
    guard let last = open.indices.last else {
      documents.append(node)
      return
    }
    if open[last].isMapping, open[last].elements.count.isMultiple(of: 2), let key = node.scalar {
      guard open[last].keys.insert(key).inserted else { throw .repeatedKey(node.mark, key) }
    }
    open[last].elements.append(node)
  }
}

extension YAMLComposer.Open {
  fileprivate var content: YAMLNode.Content {
    guard isMapping else { return .sequence(elements) }
    // The parser gives a value, if only an empty one, for every key.
    return .mapping(stride(from: 0, to: elements.count - 1, by: 2).map { (elements[$0], elements[$0 + 1]) })
  }
}
