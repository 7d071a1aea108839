import Glibc
import Linux

/// What an agent of the mesh that writes nftables left in a namespace: invisible to libiptc, and in force beside our rules
/// (redirection.md §11). Read and removed, never written.
enum NFTables {
  /// How often a removal is planned anew because somebody else changed the tables meanwhile.
  private static let attempts = 5

  /// What is there, of the namespace the calling thread is in; nothing when the kernel has no nftables. Throws
  /// ``RedirectionError``.
  static func read() throws(RedirectionError) -> NFTablesSnapshot {
    var session = try NetlinkSession(.netfilter)
    var snapshot = NFTablesSnapshot()
    for object in NFTablesSnapshot.Object.allCases {
      // Most namespaces have no tables at all.
      guard object == .table || !snapshot.tables.isEmpty else { return snapshot }
      let request = NetfilterMessage(subsystem: .tables, command: object.query)
      do throws(RedirectionError) {
        for message in try session.dump(request.kind, request.payload) { try snapshot.take(message, object) }
      } catch {
        switch error {
        // What a kernel answers that was built without nftables.
        case .netlinkFailed(let cause) where [EINVAL, EOPNOTSUPP, EPROTONOSUPPORT].contains(cause.number):
          return snapshot
        default: throw error
        }
      }
    }
    return snapshot
  }

  /// What of the mesh is there. Throws ``RedirectionError``.
  static func leftovers() throws(RedirectionError) -> [RedirectionDeviation] { try read().leftovers }

  /// Removes what of the mesh is there, all at once; everybody else's stays. True when there was something. Throws
  /// ``RedirectionError``.
  static func sweep() throws(RedirectionError) -> Bool {
    for _ in 0..<attempts {
      let removals = try read().removals
      guard !removals.isEmpty else { return false }
      var session = try NetlinkSession(.netfilter)
      switch try session.transact(removals, in: .tables) {
      case 0: return true
      case EPERM, EACCES: throw .notPermitted(subject: "nftables")
      // Somebody else was there in between.
      case ENOENT, EBUSY, EAGAIN, EINTR, ERESTART: continue
      case let number: throw .netlinkFailed(SystemError("netlink", number, subject: "remove nftables chains"))
      }
    }
    throw .tableBusy(table: "nftables")
  }
}
