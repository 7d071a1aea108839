import CLinux
import Foundation
import Linux
import Redirection
import Synchronization
import Vocabulary
import ZDS

@testable import NodeAgent

/// Redirection that only remembers, by namespace.
final class FakeRedirection: PodRedirecting {
  struct Refusal: CodedError, Equatable {
    var code: String { "FAKE_REFUSAL" }
    var summary: String { "the fake refuses" }
  }

  struct State {
    var settings: [NamespaceIdentity: RedirectionSettings] = [:]
    var deviating: Set<NamespaceIdentity> = []
    var fenced: Set<NamespaceIdentity> = []
    /// Namespaces in which ztunnel does not listen.
    var unserved: Set<NamespaceIdentity> = []
    var escaped: UInt64 = 0
    var stopped: UInt64 = 0
    /// Fences are in the journal, too.
    var notesFences = false
    /// What is refused: `apply`, `remove`, `prove`, `fence`.
    var refused: Set<String> = []
    /// Namespaces whose apply does not come back before they are taken out of here.
    var stuck: Set<NamespaceIdentity> = []
    var log: [String] = []
  }

  let state = Mutex(State())
  let journal: Journal

  init(_ journal: Journal) { self.journal = journal }

  func apply(_ settings: RedirectionSettings, in namespace: NetworkNamespace) throws -> RedirectionReport {
    let id = namespace.identity
    for _ in 0..<5000 where state.withLock({ $0.stuck.contains(id) }) { usleep(1000) }
    return try state.withLock { state in
      if state.refused.contains("apply") { throw Refusal() }
      let changed = state.settings[id] != settings || state.deviating.contains(id)
      state.settings[id] = settings
      state.deviating.remove(id)
      if changed { journal.note("write") }
      return RedirectionReport(changed: changed ? ["nat"] : [])
    }
  }

  func prove(_ settings: RedirectionSettings, in namespace: NetworkNamespace) throws -> NamespaceProof {
    try state.withLock { state in
      if state.refused.contains("prove") { throw Refusal() }
      let id = namespace.identity
      let deviates = state.settings[id] != settings || state.deviating.contains(id)
      return NamespaceProof(
        deviations: deviates ? [RedirectionDeviation(subject: "nat", difference: "gone")] : [],
        isFenced: state.fenced.contains(id),
        listeners: state.unserved.contains(id) ? [] : NamespaceProof.neededListeners, escaped: state.escaped,
        stopped: state.stopped)
    }
  }

  func raiseFence(_ settings: RedirectionSettings, in namespace: NetworkNamespace) throws -> Bool {
    try state.withLock { state in
      if state.refused.contains("fence") { throw Refusal() }
      let isNew = state.fenced.insert(namespace.identity).inserted
      if isNew, state.notesFences { journal.note("fence") }
      return isNew
    }
  }

  func lowerFence(in namespace: NetworkNamespace) throws -> Bool {
    state.withLock { state in
      let was = state.fenced.remove(namespace.identity) != nil
      if was, state.notesFences { journal.note("unfence") }
      return was
    }
  }

  func remove(from namespace: NetworkNamespace) throws -> RedirectionReport {
    try state.withLock { state in
      if state.refused.contains("remove") { throw Refusal() }
      state.fenced.remove(namespace.identity)
      let had = state.settings.removeValue(forKey: namespace.identity) != nil
      if had { journal.note("unwrite") }
      return RedirectionReport(changed: had ? ["nat"] : [])
    }
  }
}

/// The node's probe sets, as a dictionary.
final class FakeProbes: ProbeExempting {
  let addresses = Mutex<[String: [IPAddress]]>([:])
  let isBroken = Mutex(false)

  func exempt(_ addresses: [IPAddress], of owner: String) throws -> Bool {
    if isBroken.withLock({ $0 }) { throw FakeRedirection.Refusal() }
    return self.addresses.withLock { all in
      let last = all[owner]
      all[owner] = addresses.isEmpty ? nil : addresses
      return last != all[owner]
    }
  }
}

/// What happened, in order, over all fakes.
final class Journal: Sendable {
  private let lines = Mutex<[String]>([])

  func note(_ line: String) { lines.withLock { $0.append(line) } }
  var all: [String] { lines.withLock { $0 } }
  func clear() { lines.withLock { $0 = [] } }
}

/// Ztunnel as the enroller sees it. Lives on the loop.
final class FakeAnnouncer: WorkloadAnnouncing {
  let journal: Journal
  var failure: ZDSError?
  var kept: Set<WorkloadUID> = []
  var identities: [WorkloadUID: Bool] = [:]

  init(_ journal: Journal) { self.journal = journal }

  func add(_ uid: WorkloadUID, _ info: WorkloadInfo, in namespace: NetworkNamespace) async throws(ZDSError) {
    kept.remove(uid)
    if let failure { throw failure }
    journal.note("add \(uid)")
  }

  func identity(of uid: WorkloadUID) async -> Bool? { identities[uid] }

  func keep(_ uid: WorkloadUID, _ info: WorkloadInfo) throws(ZDSError) { kept.insert(uid) }

  func delete(_ uid: WorkloadUID) async {
    kept.remove(uid)
    journal.note("delete \(uid)")
  }
}

/// Network namespaces under names that can appear, change and vanish: links in a directory to open descriptors.
final class NamedNamespaces: Sendable {
  private let directory: TemporaryDirectory
  private let held = Mutex<[NetworkNamespace]>([])

  init() throws { directory = try TemporaryDirectory() }

  func path(_ name: String) -> String { "\(directory.path)/\(name)" }

  /// Makes a namespace and gives it this name, in place of what had it.
  @discardableResult
  func make(_ name: String) throws -> NamespaceIdentity {
    let made = Mutex<Result<NetworkNamespace, any Error>?>(nil)
    // A thread of its own, because it ends in the new namespace.
    let thread = Thread {
      let result = Result {
        try system("unshare") { ambient_unshare_net() }
        return try NetworkNamespace(path: "/proc/thread-self/ns/net")
      }
      made.withLock { $0 = result }
    }
    thread.start()
    while made.withLock({ $0 == nil }) { usleep(200) }
    guard let namespace = try made.withLock({ $0 })?.get() else { throw SystemError("unshare", EINVAL) }
    held.withLock { $0.append(namespace) }
    link(name, to: namespace)
    return namespace.identity
  }

  /// Gives the newest namespace another name, too.
  func alias(_ name: String) {
    if let newest = held.withLock({ $0.last }) { link(name, to: newest) }
  }

  func remove(_ name: String) { unlink(path(name)) }

  private func link(_ name: String, to namespace: NetworkNamespace) {
    remove(name)
    symlink("/proc/self/fd/\(namespace.descriptor.raw)", path(name))
  }
}
