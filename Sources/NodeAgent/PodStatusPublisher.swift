import JSON
import Kubernetes
import Linux
import Logging

/// Writes on pods what is so about their capture (``PodStatus``), until they say it (enrollment.md §5).
///
/// Each pod has its own retries, and a few requests run at once. A patch names the pod's UID, so that a pod of the same
/// name never gets its predecessor's state (enrollment.md limit 17). Belongs to its event loop.
final class PodStatusPublisher {
  private struct Entry {
    let pod: ObjectReference
    var wanted: PodStatus
    var isUnderWay = false
    var backOff = BackOff(first: .milliseconds(200))
    var retry: LoopTimer?
    /// What was written, as long as the watch may not have shown it yet.
    var written: (value: PodStatus, at: ContinuousClock.Instant)?
  }

  private let client: APIClient
  private let logger: Logger
  private var entries: [String: Entry] = [:]
  private var queue: [String] = []
  private var running = 0

  private static let mostAtOnce = 8
  /// Time in which the watch shows what was written.
  private static let echo = Duration.seconds(10)

  init(_ client: APIClient, logger: Logger) {
    self.client = client
    self.logger = logger
  }

  /// What `next` makes of what the pod says now is wanted on it.
  func publish(on pod: Pod, _ next: (PodStatus) -> PodStatus) {
    let uid = pod.meta.uid
    var entry = entries[uid] ?? Entry(pod: pod.meta.reference, wanted: PodStatus())
    var current = PodStatus(pod)
    if let written = entry.written {
      if written.value == current || ContinuousClock.now - written.at > Self.echo {
        entry.written = nil
      } else {
        current = written.value
      }
    }
    entry.wanted = next(entry.isUnderWay ? entry.wanted : current)
    if current == entry.wanted, !entry.isUnderWay {
      entry.retry?.cancel()
      entry.retry = nil
      entries[uid] = entry.written == nil ? nil : entry
      return
    }
    entries[uid] = entry
    // One that failed waits for its own time, unless there is something else to say.
    if !entry.isUnderWay, entry.retry == nil { enqueue(uid) }
  }

  /// All other pods are gone.
  func keepOnly(_ uids: Set<String>) {
    for (uid, entry) in entries where !uids.contains(uid) {
      entry.retry?.cancel()
      entries[uid] = nil
    }
  }

  /// Nothing is left to be written, or failed and waits for its next try.
  var isIdle: Bool { running == 0 && queue.isEmpty }

  private func enqueue(_ uid: String) {
    if !queue.contains(uid) { queue.append(uid) }
    startNext()
  }

  private func startNext() {
    while running < Self.mostAtOnce, !queue.isEmpty {
      let uid = queue.removeFirst()
      guard var entry = entries[uid], !entry.isUnderWay else { continue }
      entry.isUnderWay = true
      entries[uid] = entry
      running += 1
      let (pod, value) = (entry.pod, entry.wanted)
      client.loop.spawn { [self] in
        var failure: KubernetesError?
        do throws(KubernetesError) { try await client.send(Self.patch(pod, uid, value)) } catch { failure = error }
        running -= 1
        ended(uid, pod, value, failure)
        startNext()
      }
    }
  }

  private func ended(_ uid: String, _ pod: ObjectReference, _ value: PodStatus, _ failure: KubernetesError?) {
    guard var entry = entries[uid] else { return }
    entry.isUnderWay = false
    if let failure {
      if failure.isNotFound || failure.isConflict {
        // The pod is gone, or another one has its name.
        entries[uid] = nil
        return
      }
      logger.warning(
        "the state of a pod is not written", metadata: ["pod": "\(pod)", "uid": "\(uid)", "error": "\(failure)"])
      entry.retry = client.loop.schedule(after: entry.backOff.delay()) { [weak self] in
        self?.entries[uid]?.retry = nil
        self?.enqueue(uid)
      }
    } else {
      logger.debug(
        "state written",
        metadata: [
          "pod": "\(pod)", "redirection": "\(value.redirection ?? "none")", "proof": "\(value.proof ?? "none")",
        ])
      FaultPoint.reached("annotated", with: pod.name)
      entry.backOff.reset()
      entry.written = (value, .now)
      if entry.wanted != value { queue.append(uid) }
    }
    entries[uid] = entry
  }

  /// The subresource asks for less privilege than the pod itself.
  static func patch(_ pod: ObjectReference, _ uid: String, _ value: PodStatus) -> APIRequest {
    let annotations: JSONValue = [
      Pod.redirectionAnnotation: value.redirection.map { .string($0) } ?? .null,
      PodStatus.proofAnnotation: value.proof.map { .string($0) } ?? .null,
    ]
    return .mergePatch(
      Pod.path(pod) + "/status", ["metadata": ["uid": .string(uid), "annotations": annotations]])
  }
}
