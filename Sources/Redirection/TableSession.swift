import CIptc
import Glibc
import Linux
import Vocabulary

/// Reading and writing single tables of the network namespace the calling thread is in, through libiptc.
///
/// Hold an ``XtablesLock`` around reading and writing. Several threads may do so for several namespaces at once: what
/// libiptc has of global state is in ``TableHandle``.
enum TableSession {
  /// How often a table is read again after another writer changed it in between.
  private static let attempts = 5

  /// The table as it is. Throws ``RedirectionError``.
  static func read(_ table: TableIdentity) throws(RedirectionError) -> TableSnapshot {
    let handle = try TableHandle(table)
    return try handle.snapshot()
  }

  /// How many packets each rule of a chain has seen. Throws ``RedirectionError``.
  static func packets(_ chain: ChainName, in table: TableIdentity) throws(RedirectionError) -> [UInt64] {
    let handle = try TableHandle(table)
    return handle.packets(chain)
  }

  /// Makes the table as planned and says whether that took a write. The kernel switches from the old content to the new
  /// one at once. Throws ``RedirectionError``.
  static func write(_ plan: TablePlan) throws(RedirectionError) -> Bool {
    for _ in 0..<attempts {
      let handle = try TableHandle(plan.table)
      let edits = TableComparison(plan: plan, found: try handle.snapshot()).edits
      guard !edits.isEmpty else { return false }
      let encoder = EntryEncoder(
        family: plan.table.family,
        revisions: try KernelExtensions(family: plan.table.family).revisions(for: plan))
      for edit in edits { try handle.perform(edit, encoder) }
      if try handle.commit() { return true }
    }
    throw .tableBusy(table: "\(plan.table)")
  }

  /// Tables the namespace has, in the order of installing. Opening a table makes it, so those nobody needs are looked for
  /// here first. Empty when the kernel's xtables core of that family is not there. Throws ``RedirectionError``.
  static func existing(_ family: IPAddress.Family) throws(RedirectionError) -> [TableIdentity] {
    // Not /proc/net: that is the network namespace of the process's first thread.
    let path = "/proc/thread-self/net/ip\(family == .v4 ? "" : "6")_tables_names"
    guard let text = try KernelFile.read(path) else { return [] }
    let names = Set(text.split(separator: "\n").map(String.init))
    return TableName.allCases.filter { names.contains($0.rawValue) }.map { TableIdentity(family: family, name: $0) }
  }
}
