@testable import Ztunnel

extension Pump {
  /// Moves bytes until it is over.
  func run() async -> PumpOutcome {
    await withUnsafeContinuation { continuation in start { continuation.resume(returning: $0) } }
  }
}
