import Glibc
import Linux
import Synchronization
import Vocabulary

/// Finds the network namespaces of pods by their processes, in `/proc` of the node (enrollment.md §6).
///
/// One look over all processes serves every pod that asks within a moment, so that many pods that are not there cost no
/// more than one. What was found is found again through the same process, as long as that lives. Safe to use from any
/// thread; its methods block.
public final class PodNamespaceFinder: Sendable {
  /// One process of a pod.
  struct Candidate: Equatable {
    let process: Int32
    /// In ticks since the boot: tells a process from a later one of the same number.
    let started: UInt64
    let namespace: NamespaceIdentity
  }

  private struct State {
    var candidates: [String: [Candidate]] = [:]
    var looked: ContinuousClock.Instant?
    var remembered: [String: Candidate] = [:]
  }

  private let proc: String
  /// How long a look serves.
  private let freshness: Duration
  private let state = Mutex(State())

  /// `proc` is the node's `/proc`: `/host/proc` in a container.
  public init(proc: String = "/proc", freshness: Duration = .milliseconds(250)) {
    self.proc = proc
    self.freshness = freshness
  }

  /// The namespace of the pod's oldest process in which one of its addresses is. Nil where there is none.
  public func find(_ uid: String, _ addresses: [IPAddress]) -> NetworkNamespace? {
    guard !addresses.isEmpty else { return nil }
    if let known = state.withLock({ $0.remembered[uid] }), let namespace = open(known),
      (try? namespace.holds(anyOf: addresses)) == true
    {
      return namespace
    }
    let candidates = look(for: uid)
    for candidate in candidates.sorted(by: { $0.started < $1.started }) {
      // Ownership is proven, not believed: a process of one pod may have entered the namespace of another.
      guard let namespace = open(candidate), (try? namespace.holds(anyOf: addresses)) == true else { continue }
      state.withLock { $0.remembered[uid] = candidate }
      return namespace
    }
    return nil
  }

  /// The pod is gone.
  public func forget(_ uid: String) {
    state.withLock { $0.remembered[uid] = nil }
  }

  // MARK: Processes

  private func look(for uid: String) -> [Candidate] {
    // Whoever comes while another looks waits for it, and takes what it found.
    state.withLock { state in
      if let looked = state.looked, ContinuousClock.now - looked < freshness { return state.candidates[uid] ?? [] }
      state.candidates = scan()
      state.looked = .now
      return state.candidates[uid] ?? []
    }
  }

  /// All processes of pods outside of the node's own namespace, by pod. A process that cannot be read is passed over: it
  /// may have ended.
  func scan() -> [String: [Candidate]] {
    guard let directory = opendir(proc) else { return [:] }
    defer { closedir(directory) }
    let host = namespaceIdentity(of: 1)
    var found: [String: [Candidate]] = [:]
    while let entry = readdir(directory) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      guard let process = Int32(name), process > 0, let namespace = namespaceIdentity(of: process), namespace != host,
        let text = text("\(proc)/\(process)/cgroup"), let path = try? CgroupPath.of(cgroupFile: text),
        let started = startTime(of: process)
      else { continue }
      let candidate = Candidate(process: process, started: started, namespace: namespace)
      var known = found[path.podUID] ?? []
      // The oldest process of each namespace.
      if let index = known.firstIndex(where: { $0.namespace == namespace }) {
        if started < known[index].started { known[index] = candidate }
      } else {
        known.append(candidate)
      }
      found[path.podUID] = known
    }
    return found
  }

  /// The namespace of that very process; nil when another one has its number, or it has another namespace.
  private func open(_ candidate: Candidate) -> NetworkNamespace? {
    guard let namespace = try? NetworkNamespace(path: "\(proc)/\(candidate.process)/ns/net"),
      namespace.identity == candidate.namespace,
      // After the opening: the process that was opened is the one that was found.
      startTime(of: candidate.process) == candidate.started
    else { return nil }
    return namespace
  }

  private func namespaceIdentity(of process: Int32) -> NamespaceIdentity? {
    var status = stat()
    guard stat("\(proc)/\(process)/ns/net", &status) == 0 else { return nil }
    return NamespaceIdentity(device: UInt64(status.st_dev), inode: UInt64(status.st_ino))
  }

  /// Field 22 of `stat`; the second may hold anything, parentheses included.
  private func startTime(of process: Int32) -> UInt64? {
    guard let text = text("\(proc)/\(process)/stat"), let end = text.lastIndex(of: ")") else { return nil }
    let fields = text[text.index(after: end)...].split(separator: " ")
    return fields.count > 19 ? UInt64(fields[19]) : nil
  }

  private func text(_ path: String) -> String? {
    (try? SmallFile.read(path, limit: 64 << 10)).map { String(decoding: $0, as: UTF8.self) }
  }
}
