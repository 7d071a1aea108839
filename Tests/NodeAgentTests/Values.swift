import Foundation
import Linux
import Redirection
import ZDS

@testable import NodeAgent

/// A uid of a literal.
func uid(_ text: String) -> WorkloadUID {
  guard let uid = WorkloadUID(text) else { preconditionFailure("an empty uid in a test") }
  return uid
}

func workload(
  _ name: String, at path: String, inMesh: Bool = true, account: String = "default",
  annotations: CaptureAnnotations = .init()
) -> DesiredWorkload {
  DesiredWorkload(
    uid: uid(name), info: WorkloadInfo(name: name, namespace: "shop", serviceAccount: account), location: .path(path),
    inMesh: inMesh, annotations: annotations)
}

/// A directory that goes away with the test.
final class TemporaryDirectory: Sendable {
  let path: String

  init() throws {
    var template = Array("/tmp/ambient-agent-XXXXXX".utf8CString)
    guard let made = mkdtemp(&template) else { throw SystemError("mkdtemp", errno) }
    path = String(cString: made)
  }

  func write(_ text: String, to name: String) throws {
    let file = try Descriptor.open("\(path)/\(name)", O_WRONLY | O_CREAT | O_TRUNC, mode: 0o644)
    let bytes = Array(text.utf8)
    let raw = file.raw
    try system("write", name) { Foundation.write(raw, bytes, bytes.count) }
  }

  func remove(_ name: String) { unlink("\(path)/\(name)") }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// Runs `body` as a task of a loop that ends with the test.
func onLoop<Result: Sendable>(_ body: @escaping @Sendable (EventLoop) async -> Result) async throws -> Result {
  let loop = try EventLoop(name: "agent-test")
  try loop.start()
  defer {
    loop.stop()
    loop.join()
  }
  return await withCheckedContinuation { continuation in
    loop.spawn { continuation.resume(returning: await body(loop)) }
  }
}

extension EventLoop {
  /// Waits on the loop until `condition` holds, but not for ever.
  func waitUntil(_ condition: () -> Bool) async -> Bool {
    for _ in 0..<1000 {
      if condition() { return true }
      await sleep(for: .milliseconds(5))
    }
    return condition()
  }
}

extension NodeAgentConfiguration {
  /// The directory of workload files; nil with another source.
  var directory: String? {
    if case .directory(let path) = source { path } else { nil }
  }

  /// Nil with another source.
  var kubernetes: KubernetesSettings? {
    if case .kubernetes(let settings) = source { settings } else { nil }
  }
}
