import CIptc
import Glibc
import Synchronization
import Vocabulary

/// What matches and targets the kernel has, asked in the calling thread's network namespace before anything is written:
/// a missing one is named, where a failed write would only say "no such file".
struct KernelExtensions {
  let family: IPAddress.Family

  /// The revisions to write a plan with. Throws ``RedirectionError/extensionMissing(name:family:)``.
  func revisions(for plan: TablePlan) throws(RedirectionError) -> ExtensionRevisions {
    var revisions = ExtensionRevisions()
    let rules = plan.chains.flatMap(\.rules).map(\.rule)
    for needed in Set(rules.flatMap(\.matches).map { ExtensionCodec.encode($0).identity }) {
      _ = try newest(of: [needed.revision], needed.name, isTarget: false)
    }
    let targets = Set(rules.map(\.target))
    let changesMarks = targets.contains {
      switch $0 {
      case .setConnectionMark, .restoreMark: true
      default: false
      }
    }
    if changesMarks {
      revisions.connmarkTarget = try newest(of: [2, 1], Array("CONNMARK".utf8), isTarget: true)
    }
    if targets.contains(where: { if case .connectionZone = $0 { true } else { false } }) {
      revisions.connectionTrackingTarget = try newest(of: [2, 1, 0], Array("CT".utf8), isTarget: true)
    }
    if targets.contains(where: { if case .redirect = $0 { true } else { false } }) {
      _ = try newest(of: [0], Array("REDIRECT".utf8), isTarget: true)
    }
    if targets.contains(where: { if case .setHopLimit = $0 { true } else { false } }) {
      _ = try newest(of: [0], Array((family == .v4 ? "TTL" : "HL").utf8), isTarget: true)
    }
    if targets.contains(where: { if case .rewriteSource = $0 { true } else { false } }) {
      _ = try newest(of: [family == .v4 ? 0 : 1], Array("SNAT".utf8), isTarget: true)
    }
    return revisions
  }

  /// Whether the kernel has the `owner` match, which is one for both families.
  static var knowsSenders: Bool {
    if let known = senders.withLock({ $0 }) { return known }
    let match = ExtensionCodec.encode(.sentByProcess).identity
    let outcome = ambient_extension_revision(
      systemFamily(.v4), 0, String(decoding: match.name, as: UTF8.self), match.revision)
    switch outcome {
    case 0: senders.withLock { $0 = true }
    case ENOENT, EPROTONOSUPPORT: senders.withLock { $0 = false }
    // Says nothing about the match, or only that there are no tables at all yet: a rule that turns out to be impossible is
    // an error of its own.
    default: return true
    }
    return outcome == 0
  }

  /// Asked once: where there is no such module, each question has the kernel look for it.
  private static let senders = Mutex<Bool?>(nil)

  private func newest(of candidates: [UInt8], _ name: [UInt8], isTarget: Bool) throws(RedirectionError) -> UInt8 {
    let name = String(decoding: name, as: UTF8.self)
    for revision in candidates
    where ambient_extension_revision(systemFamily(family), isTarget ? 1 : 0, name, revision) == 0 {
      return revision
    }
    throw .extensionMissing(name: name, family: family)
  }
}

extension OpaqueExtension {
  /// Name and revision without the data.
  fileprivate var identity: OpaqueExtension { OpaqueExtension(name: name, revision: revision, data: []) }
}

/// AF_INET or AF_INET6.
func systemFamily(_ family: IPAddress.Family) -> CInt { family == .v4 ? AF_INET : AF_INET6 }
