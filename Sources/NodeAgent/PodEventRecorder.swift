import Glibc
import JSON
import Kubernetes
import Linux
import Logging

/// Tells people about a pod where they look first: in the events of the pod.
///
/// The same news of the same pod is told at most once in ``quiet``, and news of all pods together at most
/// ``mostInAMinute`` times, so that a node in trouble does not trouble the API server. Belongs to its event loop.
final class PodEventRecorder {
  private struct Subject: Hashable {
    let uid: String
    let reason: String
    let message: String
  }

  private let client: APIClient
  private let nodeName: String
  private let logger: Logger
  private var told: [Subject: ContinuousClock.Instant] = [:]
  private var minute: (start: ContinuousClock.Instant, count: Int)?

  static let quiet = Duration.seconds(300)
  static let mostInAMinute = 60
  private static let longestMessage = 1000

  init(_ client: APIClient, nodeName: String, logger: Logger) {
    self.client = client
    self.nodeName = nodeName
    self.logger = logger
  }

  /// Something about the pod is wrong.
  func warn(_ pod: Pod, reason: String, _ message: String) { tell(pod, "Warning", reason, message) }

  /// Something was done to the pod.
  func note(_ pod: Pod, reason: String, _ message: String) { tell(pod, "Normal", reason, message) }

  /// All other pods are gone.
  func keepOnly(_ uids: Set<String>) { told = told.filter { uids.contains($0.key.uid) } }

  private func tell(_ pod: Pod, _ type: String, _ reason: String, _ message: String) {
    let now = ContinuousClock.now
    let subject = Subject(uid: pod.meta.uid, reason: reason, message: message)
    if let last = told[subject], now - last < Self.quiet { return }
    if let minute, now - minute.start < .seconds(60) {
      guard minute.count < Self.mostInAMinute else { return }
      self.minute?.count += 1
    } else {
      minute = (now, 1)
    }
    told[subject] = now
    let request = Self.request(
      pod, type: type, reason: reason, message: message, nodeName: nodeName, time: Self.now(),
      suffix: String(UInt64.random(in: .min ... .max), radix: 16))
    client.loop.spawn { [client, logger] in
      do throws(KubernetesError) { try await client.send(request) } catch {
        logger.debug("an event is not written", metadata: ["pod": "\(pod.meta.reference)", "error": "\(error)"])
      }
    }
  }

  static func request(
    _ pod: Pod, type: String, reason: String, message: String, nodeName: String, time: String, suffix: String
  ) -> APIRequest {
    let namespace = pod.meta.namespace
    // A name of at most 253 bytes.
    let name = "\(pod.meta.name.prefix(230)).\(suffix)"
    return APIRequest(
      .post, "/api/v1/namespaces/\(namespace)/events",
      [
        "apiVersion": "v1", "kind": "Event",
        "metadata": ["name": .string(name), "namespace": .string(namespace)],
        "involvedObject": [
          "apiVersion": "v1", "kind": "Pod", "name": .string(pod.meta.name), "namespace": .string(namespace),
          "uid": .string(pod.meta.uid),
        ],
        "type": .string(type), "reason": .string(reason),
        "message": .string(String(message.prefix(longestMessage))), "count": 1,
        "firstTimestamp": .string(time), "lastTimestamp": .string(time),
        "source": ["component": "ambient-node-agent", "host": .string(nodeName)],
      ])
  }

  /// RFC 3339, in whole seconds.
  private static func now() -> String {
    var seconds = time(nil)
    var parts = tm()
    gmtime_r(&seconds, &parts)
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 32) { buffer in
      guard let base = buffer.baseAddress, strftime(base, buffer.count, "%Y-%m-%dT%H:%M:%SZ", &parts) > 0 else {
        return "1970-01-01T00:00:00Z"
      }
      return String(cString: base)
    }
  }
}
