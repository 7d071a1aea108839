import DNS
import Logging
import ZDS

/// Writes the line of each query, target `dns` (observability.md §2.3).
struct DNSQueryLog {
  private let logger = Logger(label: "dns")
  private let workload: WorkloadInfo

  init(_ workload: WorkloadInfo) { self.workload = workload }

  /// `endpoints` is the number of addresses given.
  func write(_ question: Question?, _ result: @autoclosure () -> String, endpoints: Int = 0) {
    guard logger.logLevel <= .debug else { return }
    logger.debug(
      "",
      metadata: [
        "src.workload": "\(workload.name)", "src.namespace": "\(workload.namespace)",
        "query": "\(question?.type.description ?? "")", "domain": "\(question?.name.description ?? "")",
        "result": "\(result())", "endpoints": "\(endpoints)",
      ])
  }
}
