import CIptc
import Glibc
import Linux
import Synchronization
import Vocabulary

/// libiptc's copy of one table. Used by one thread; several threads may have one each. Closed when the value ends.
///
/// libiptc keeps two things outside of its handles (redirection.md §9.3 item 5): the name of the last call, which only its
/// `iptc_strerror` reads, and nobody here calls that; and, in some versions, what it does while it makes a chain, which
/// is one at a time therefore.
struct TableHandle: ~Copyable {
  private static let chainCreation = Mutex<Void>(())

  /// Far beyond what a namespace holds: a table past it is refused rather than read forever.
  private static let maximumRules = 200_000

  private let table: TableIdentity
  private let handle: OpaquePointer
  private var family: CInt { systemFamily(table.family) }

  /// Reads the table of the calling thread's network namespace. Throws ``RedirectionError``.
  init(_ table: TableIdentity) throws(RedirectionError) {
    guard let handle = ambient_table_open(systemFamily(table.family), table.name.rawValue) else {
      throw Self.openFailure(errno, table)
    }
    self.table = table
    self.handle = handle
  }

  /// What an error number of `iptc_init` means (redirection.md §9.3 item 1).
  static func openFailure(_ number: CInt, _ table: TableIdentity) -> RedirectionError {
    switch number {
    case ENOPROTOOPT: .legacyTablesMissing(family: table.family)
    case ENOENT: .tableMissing(table: "\(table)")
    case EPERM, EACCES: .notPermitted(subject: "table \(table)")
    default: .tableFailed(table: "\(table)", SystemError("iptc_init", number))
    }
  }

  deinit { ambient_table_close(family, handle) }

  /// All chains and rules. Throws ``RedirectionError``.
  func snapshot() throws(RedirectionError) -> TableSnapshot {
    var names: [ChainName] = []
    var next = ambient_table_first_chain(family, handle)
    while let name = next {
      names.append(ChainName(bytes: text(name)))
      guard names.count <= Self.maximumRules else { throw malformed("", "too many chains") }
      next = ambient_table_next_chain(family, handle)
    }
    var chains: [TableSnapshot.Chain] = []
    var count = 0
    for name in names {
      let policy = withLabel(name) { ambient_table_policy(family, handle, $0) }.map { text($0) }
      chains.append(
        TableSnapshot.Chain(
          name: name, policy: policy.map { String(decoding: $0, as: UTF8.self) }, rules: try rules(name, &count)))
    }
    return TableSnapshot(table: table, chains: chains)
  }

  private func rules(_ chain: ChainName, _ count: inout Int) throws(RedirectionError) -> [Rule] {
    let decoder = EntryDecoder(family: table.family)
    var rules: [Rule] = []
    var size = 0
    var next = withLabel(chain) { ambient_table_first_rule(family, handle, $0, &size) }
    while let entry = next {
      count += 1
      guard count <= Self.maximumRules else { throw malformed("\(chain)", "too many rules") }
      guard let target = ambient_table_target(family, handle, entry) else {
        throw malformed("\(chain)", "rule \(rules.count + 1) has no target")
      }
      let bytes = Array(UnsafeRawBufferPointer(start: entry, count: size))
      do { rules.append(try decoder.rule(bytes, targetName: text(target))) } catch {
        throw malformed("\(chain)", "rule \(rules.count + 1): \(error.rawValue)")
      }
      next = ambient_table_next_rule(family, handle, entry, &size)
    }
    return rules
  }

  /// How many packets each rule of a chain has seen, in the chain's order; empty when there is no such chain.
  func packets(_ chain: ChainName) -> [UInt64] {
    let offset = EntryLayout.of(table.family).packets
    var packets: [UInt64] = []
    var size = 0
    var next = withLabel(chain) { ambient_table_first_rule(family, handle, $0, &size) }
    while let entry = next, packets.count < Self.maximumRules {
      let bytes = Array(UnsafeRawBufferPointer(start: entry, count: size))
      packets.append(bytes.number(UInt64.self, at: offset) ?? 0)
      next = ambient_table_next_rule(family, handle, entry, &size)
    }
    return packets
  }

  /// Changes the copy. Throws ``RedirectionError/tableFailed(table:_:)``.
  func perform(_ edit: TableEdit, _ encoder: EntryEncoder) throws(RedirectionError) {
    let done: CInt
    let call: String
    switch edit {
    case .deleteRule(let chain, let position):
      call = "iptc_delete_num_entry"
      done = withLabel(chain) { ambient_table_delete_rule(family, handle, $0, CUnsignedInt(position)) }
    case .flush(let chain):
      call = "iptc_flush_entries"
      done = withLabel(chain) { ambient_table_flush_chain(family, handle, $0) }
    case .deleteChain(let chain):
      call = "iptc_delete_chain"
      done = withLabel(chain) { ambient_table_delete_chain(family, handle, $0) }
    case .createChain(let chain):
      call = "iptc_create_chain"
      // The error number is the thread's own, and survives the unlocking.
      done = Self.chainCreation.withLock { _ in
        withLabel(chain) { ambient_table_create_chain(family, handle, $0) }
      }
    case .append(let chain, let rule):
      call = "iptc_append_entry"
      let entry = encoder.entry(rule)
      done = withLabel(chain) { ambient_table_append_rule(family, handle, $0, entry, entry.count) }
    case .insert(let chain, let rule, let position):
      call = "iptc_insert_entry"
      let entry = encoder.entry(rule)
      done = withLabel(chain) {
        ambient_table_insert_rule(family, handle, $0, entry, entry.count, CUnsignedInt(position))
      }
    }
    if done == 0 { throw .tableFailed(table: "\(table)", SystemError(call, errno, subject: "\(edit.chain)")) }
  }

  /// Replaces the kernel's table by this copy. False when the table changed since it was read (`EAGAIN`): read it again.
  /// Throws ``RedirectionError``.
  func commit() throws(RedirectionError) -> Bool {
    if ambient_table_commit(family, handle) != 0 { return true }
    switch errno {
    case EAGAIN, EINTR: return false
    case EPERM, EACCES: throw .notPermitted(subject: "table \(table)")
    case let number: throw .tableFailed(table: "\(table)", SystemError("iptc_commit", number))
    }
  }

  private func malformed(_ chain: String, _ reason: String) -> RedirectionError {
    .tableMalformed(table: "\(table)", chain: chain, reason: reason)
  }

  private func text(_ string: UnsafePointer<CChar>) -> [UInt8] {
    let count = strnlen(string, Int(AMBIENT_CHAIN_CAPACITY))
    return Array(UnsafeRawBufferPointer(start: string, count: count))
  }

  private func withLabel<Result>(_ chain: ChainName, _ body: (UnsafePointer<CChar>) -> Result) -> Result {
    (chain.bytes.map { CChar(bitPattern: $0) } + [0]).withUnsafeBufferPointer { buffer in
      // The array ends in its NUL, so it has a first element.
      buffer.baseAddress.map(body) ?? body("")
    }
  }
}

extension TableEdit {
  /// The chain that changes.
  var chain: ChainName {
    switch self {
    case .deleteRule(let chain, _), .flush(let chain), .deleteChain(let chain), .createChain(let chain),
      .append(let chain, _), .insert(let chain, _, _):
      chain
    }
  }
}
