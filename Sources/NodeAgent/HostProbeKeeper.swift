import Linux
import Logging
import Redirection
import Vocabulary

/// Keeps the node's side of probes as it should be while the agent runs. Belongs to its event loop.
final class HostProbeKeeper {
  private let probes: any HostProbeRules
  private let threads: BlockingThreads
  private let logger: Logger
  private var isBusy = false
  /// What was logged last, so that a trouble is one line and not one a round.
  private(set) var trouble: RedirectionError?
  private(set) var isInstalled = false
  private var isGone = false
  private var whenIdle: CheckedContinuation<Void, Never>?

  init(_ probes: any HostProbeRules, threads: BlockingThreads, logger: Logger) {
    self.probes = probes
    self.threads = threads
    self.logger = logger
  }

  /// Makes sets and rule, or mends them. Says what is wrong once.
  func install() async {
    guard !isBusy, !isGone else { return }
    isBusy = true
    defer {
      isBusy = false
      whenIdle?.resume()
      whenIdle = nil
    }
    let wasInstalled = isInstalled
    do throws(RedirectionError) {
      let changed = try await run { probes throws(RedirectionError) in try probes.install() }
      isInstalled = true
      trouble = nil
      guard !changed.isEmpty else { return }
      logger.log(
        level: wasInstalled ? .warning : .info,
        wasInstalled
          ? "somebody changed the node's probe rules or sets; they are repaired"
          : "the node's probe rules are in place",
        metadata: ["changed": "\(changed.joined(separator: ", "))"])
    } catch {
      isInstalled = false
      if error != trouble { logger.error("the node's probes cannot be let through: \(error)") }
      trouble = error
    }
  }

  /// Takes out what an earlier run left for workloads that are not wanted any more.
  func prune(keeping owners: Set<String>) async {
    guard isInstalled else { return }
    do throws(RedirectionError) {
      let removed = try await run { probes throws(RedirectionError) in try probes.keepOnly(owners) }
      guard !removed.isEmpty else { return }
      logger.info(
        "addresses of workloads that are gone left the probe sets",
        metadata: ["addresses": "\(removed.map(\.address.description).joined(separator: ", "))"])
    } catch { logger.error("the probe sets cannot be pruned: \(error)") }
  }

  /// Takes everything away, for good.
  func uninstall() async {
    isGone = true
    // Whose rules would come after the removal of all.
    if isBusy { await withCheckedContinuation { whenIdle = $0 } }
    do throws(RedirectionError) {
      let changed = try await run { probes throws(RedirectionError) in try probes.uninstall() }
      logger.info("the node's probe rules are removed", metadata: ["changed": "\(changed.joined(separator: ", "))"])
    } catch { logger.error("the node's probe rules cannot be removed: \(error)") }
  }

  private func run<Value: Sendable>(
    _ body: @escaping @Sendable (any HostProbeRules) throws(RedirectionError) -> Value
  ) async throws(RedirectionError) -> Value {
    let probes = probes
    let outcome: Result<Value, RedirectionError>
    do {
      outcome = try await threads.run {
        do throws(RedirectionError) { return .success(try body(probes)) } catch { return .failure(error) }
      }
    } catch { throw .notPermitted(subject: "the node's namespace") }
    return try outcome.get()
  }
}
