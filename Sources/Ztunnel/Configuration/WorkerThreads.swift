import Vocabulary

extension EnvironmentReader {
  /// Most workers that can be asked for: each has an epoll, its buffers and its own pool of tunnels.
  static let mostWorkerThreads: UInt64 = 1024

  /// How many workers the data plane gets, at least 1 (lifecycle.md §1.1).
  ///
  /// `processorCount` is what the machine has; a CPU limit of the container replaces it.
  mutating func workerThreads(processorCount: Int, _ proxyConfig: ProxyConfig = ProxyConfig()) -> Int {
    let limit = processors("ZTUNNEL_RESOURCE_CPU_LIMIT")
    let nodeLimit = processors("ZTUNNEL_CPU_LIMIT")
    let request = processors("ZTUNNEL_RESOURCE_CPU_REQUEST")
    let available = limit ?? nodeLimit ?? UInt64(clamping: max(1, processorCount))
    let wanted: UInt64
    if let text = value("ZTUNNEL_WORKER_THREADS") {
      guard let count = Self.workerThreads(text, processors: available) else {
        report(
          "ZTUNNEL_WORKER_THREADS",
          "must be a whole number from 0 (one for each CPU) to \(Self.mostWorkerThreads), or a percentage of the CPUs "
            + "above 0% and up to 100%")
        return 1
      }
      wanted = count
    } else if let concurrency = proxyConfig.concurrency {
      wanted = concurrency == 0 ? available : UInt64(concurrency)
    } else if let limit {
      wanted = max(limit, request ?? 0)
    } else {
      wanted = max(Self.share(250_000, of: available), request ?? 0, 2)
    }
    return Int(min(max(wanted, 1), Self.mostWorkerThreads))
  }

  private static func workerThreads(_ text: String, processors: UInt64) -> UInt64? {
    guard text.hasSuffix("%") else {
      guard let count = DecimalText.wholeNumber(text[...]), count <= mostWorkerThreads else { return nil }
      return count == 0 ? processors : count
    }
    guard let percent = DecimalText.thousandths(text.dropLast()), (1...100_000).contains(percent) else { return nil }
    return share(percent * 10, of: processors)
  }

  /// A share of the CPUs in millionths, rounded up.
  private static func share(_ millionths: UInt64, of processors: UInt64) -> UInt64 {
    (processors * millionths + 999_999) / 1_000_000
  }

  /// A Kubernetes CPU quantity, such as `2`, `1.5` or `500m`, rounded up to whole CPUs.
  private mutating func processors(_ name: String) -> UInt64? {
    guard let text = value(name) else { return nil }
    let thousandths =
      text.hasSuffix("m") ? DecimalText.wholeNumber(text.dropLast()) : DecimalText.thousandths(text[...])
    guard let thousandths, (1...1_000_000_000).contains(thousandths) else {
      report(name, "must be an amount of CPU above 0, such as 2, 1.5 or 500m")
      return nil
    }
    return (thousandths + 999) / 1000
  }
}
