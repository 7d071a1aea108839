import Foundation
import Synchronization
import Vocabulary

@testable import TestSupport

/// New connections, one after the other, each with a word and its echo, beside a test that does something to them.
final class SteadyTraffic: Sendable {
  struct Result {
    var succeeded = 0
    var failures: [String] = []
  }

  private let result = Mutex(Result())
  private let isOver = Mutex(false)
  private let done = DispatchSemaphore(value: 0)

  init(from client: MeshPod, to address: SocketAddress) {
    Thread.detachNewThread { [self] in
      while !isOver.withLock({ $0 }) {
        do {
          let answer = try TCPClient(in: client.pod).connect(to: address).exchange("hello")
          result.withLock { if answer == "hello" { $0.succeeded += 1 } else { $0.failures.append(answer) } }
        } catch {
          result.withLock { $0.failures.append("\(error)") }
        }
        Thread.sleep(forTimeInterval: 0.02)
      }
      done.signal()
    }
  }

  /// Ends it and tells how it went.
  func stop() -> Result {
    isOver.withLock { $0 = true }
    _ = done.wait(timeout: .now() + 60)
    return result.withLock { $0 }
  }
}
