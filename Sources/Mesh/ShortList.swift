/// A list that holds one element as a rule, and then takes no memory of its own: there is one for each address of a mesh.
struct ShortList<Element: Sendable>: Sendable {
  private enum Storage: Sendable {
    case one(Element)
    case many([Element])
  }

  private var storage = Storage.many([])

  private init(_ elements: [Element]) {
    if let only = elements.first, elements.count == 1 {
      storage = .one(only)
    } else {
      storage = .many(elements)
    }
  }
}

extension ShortList: RandomAccessCollection, RangeReplaceableCollection {
  init() {}

  var startIndex: Int { 0 }

  var endIndex: Int {
    switch storage {
    case .one: 1
    case .many(let elements): elements.count
    }
  }

  subscript(position: Int) -> Element {
    switch storage {
    case .one(let element):
      precondition(position == 0, "index out of range")
      return element
    case .many(let elements): return elements[position]
    }
  }

  mutating func replaceSubrange(_ range: Range<Int>, with new: some Collection<Element>) {
    var elements = Array(self)
    elements.replaceSubrange(range, with: new)
    self = ShortList(elements)
  }
}

extension ShortList: Equatable where Element: Equatable {
  static func == (left: Self, right: Self) -> Bool { left.elementsEqual(right) }
}
