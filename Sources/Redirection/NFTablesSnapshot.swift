/// Tables, chains and rules of nftables as far as a sweep needs them, and the sweep. Pure: messages in, messages out.
struct NFTablesSnapshot: Equatable, Sendable {
  /// What is listed, in the order of reading.
  enum Object: CaseIterable {
    case table, chain, rule

    /// `NFT_MSG_GET*`.
    var query: UInt16 {
      switch self {
      case .table: 1
      case .chain: 4
      case .rule: 7
      }
    }

    /// `NFT_MSG_NEW*`, the kind of what is listed.
    var listed: UInt16 { query - 1 }
    /// `NFT_MSG_DEL*`.
    var delete: UInt16 { query + 1 }
  }

  struct Table: Hashable, Sendable {
    /// `NFPROTO_*`.
    var family: UInt8
    var name: [UInt8]
  }

  struct Chain: Hashable, Sendable {
    var table: Table
    var name: ChainName
  }

  struct Rule: Equatable, Sendable {
    var chain: Chain
    var handle: UInt64
    var destination: ChainName?
  }

  var tables: [Table] = []
  var chains: [Chain] = []
  var rules: [Rule] = []

  private enum Family {
    static let inet: UInt8 = 1
    static let v4: UInt8 = 2
    static let v6: UInt8 = 10
  }

  // MARK: Reading

  /// Takes one listed object. Throws ``RedirectionError/netlinkMalformed(reason:)``.
  mutating func take(_ message: NetlinkMessage, _ object: Object) throws(RedirectionError) {
    guard message.kind == NetfilterMessage.kind(.tables, object.listed) else { return }
    guard let family = message.payload.first,
      let attributes = message.attributes(after: NetfilterMessage.headerSize), let first = attributes[1]
    else { throw Self.malformed(object) }
    // The name of the table is the first attribute of all three.
    let table = Table(family: family, name: NetlinkAttribute.text(first))
    switch object {
    case .table: tables.append(table)
    case .chain:
      guard let name = attributes[3] else { throw Self.malformed(object) }
      chains.append(Chain(table: table, name: ChainName(bytes: NetlinkAttribute.text(name))))
    case .rule:
      guard let name = attributes[2], let handle = attributes[3]?.number(UInt64.self, at: 0) else {
        throw Self.malformed(object)
      }
      rules.append(
        Rule(
          chain: Chain(table: table, name: ChainName(bytes: NetlinkAttribute.text(name))),
          handle: UInt64(bigEndian: handle), destination: try Self.destination(attributes[4] ?? [])))
    }
  }

  private static func malformed(_ object: Object) -> RedirectionError {
    .netlinkMalformed(reason: "an nftables \(object) that is not whole")
  }

  /// The chain a rule's verdict leads to: the list of expressions is searched for an immediate verdict with a chain.
  private static func destination(_ expressions: [UInt8]) throws(RedirectionError) -> ChainName? {
    guard let list = NetlinkAttribute.list(expressions) else { throw malformed(.rule) }
    for element in list {
      guard let expression = NetlinkAttribute.byType(element.value) else { throw malformed(.rule) }
      guard let name = expression[1], NetlinkAttribute.text(name) == Array("immediate".utf8),
        let data = expression[2].flatMap({ NetlinkAttribute.byType($0) }),
        let value = data[2].flatMap({ NetlinkAttribute.byType($0) }),
        let verdict = value[2].flatMap({ NetlinkAttribute.byType($0) }), let chain = verdict[2]
      else { continue }
      return ChainName(bytes: NetlinkAttribute.text(chain))
    }
    return nil
  }

  // MARK: What is the mesh's

  /// Tables that are the mesh's as a whole (redirection.md §10).
  private static let ownTables = Set(["nat", "mangle", "raw"].map { Array("istio-ambient-\($0)".utf8) })
  /// Tables in which `iptables-nft` writes what the legacy tables of these names would hold.
  private static let sharedTables = Set(["raw", "mangle", "nat", "filter"].map { Array($0.utf8) })

  private static func isOwn(_ table: Table) -> Bool { table.family == Family.inet && ownTables.contains(table.name) }

  private static func isShared(_ table: Table) -> Bool {
    (table.family == Family.v4 || table.family == Family.v6) && sharedTables.contains(table.name)
  }

  private var ownChains: [Chain] { chains.filter { Self.isShared($0.table) && $0.name.isOfMesh } }

  /// Rules of others' chains that lead into one of ours.
  private var jumps: [Rule] {
    rules.filter { rule in
      Self.isShared(rule.chain.table) && !rule.chain.name.isOfMesh && rule.destination?.isOfMesh == true
    }
  }

  var leftovers: [RedirectionDeviation] {
    tables.filter(Self.isOwn).map { RedirectionDeviation(subject: Self.text($0), difference: "should not be there") }
      + ownChains.map { chain in
        RedirectionDeviation(
          subject: "\(Self.text(chain.table)) \(chain.name)",
          difference: "should not be there: another agent wrote it, and it would capture with nobody to serve it")
      }
  }

  private static func text(_ table: Table) -> String {
    let family = [Family.inet: "inet", Family.v4: "ip", Family.v6: "ip6"][table.family] ?? "\(table.family)"
    return "nftables \(family) \(printable(table.name))"
  }

  // MARK: Removing it

  /// One transaction: jumps, then what is in our chains, then the chains, then the tables that are ours as a whole.
  var removals: [NetfilterMessage] {
    jumps.map { rule in
      Self.removal(
        .rule, rule.chain.table,
        NetlinkAttribute.text(2, rule.chain.name.bytes)
          + NetlinkAttribute.bytes(3, withUnsafeBytes(of: rule.handle.bigEndian) { Array($0) }))
    }
      // Without a handle: all rules of the chain.
      + ownChains.map { Self.removal(.rule, $0.table, NetlinkAttribute.text(2, $0.name.bytes)) }
      + ownChains.map { Self.removal(.chain, $0.table, NetlinkAttribute.text(3, $0.name.bytes)) }
      + tables.filter(Self.isOwn).map { Self.removal(.table, $0, []) }
  }

  private static func removal(_ object: Object, _ table: Table, _ more: [UInt8]) -> NetfilterMessage {
    NetfilterMessage(
      subsystem: .tables, command: object.delete, family: table.family,
      attributes: NetlinkAttribute.text(1, table.name) + more)
  }
}
