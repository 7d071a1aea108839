import Testing
import Vocabulary

@testable import Ztunnel

@Suite("Configuration: durations, worker threads and deadlines")
struct ConfigurationRuleTests {
  private func configuration(
    _ variables: [String: String], processors: Int = 4
  ) throws(ConfigurationErrors) -> ZtunnelConfiguration {
    let minimal = ["LOCAL_XDS": "{}", "LOCAL_CA_PATH": "/ca"]
    return try ZtunnelConfiguration(environment: minimal.merging(variables) { $1 }, processorCount: processors)
  }

  @Test(
    "a duration is bare seconds, or numbers with units from large to small",
    arguments: [
      ("0", Duration.zero), ("7", .seconds(7)), ("10s", .seconds(10)), ("5m", .seconds(300)),
      ("1h30m", .seconds(5400)), ("2d1h", .seconds(176_400)), ("250ms", .milliseconds(250)),
      ("1s500ms", .milliseconds(1500)), ("007s", .seconds(7)), ("36500d", .seconds(36_500 * 86_400)),
    ])
  func duration(_ text: String, _ expected: Duration) {
    #expect(DurationText.parse(text) == expected)
  }

  @Test(
    "anything else is no duration",
    arguments: [
      "", " ", "s", "1x", "1 s", "-1s", "+1", "1.5h", "30m1h", "1h1h", "1h30", "1e3", "٣s", "10S", "0x10",
      "99999999999999999999s", "9223372036854775807d", "36501d", "18446744073709551615",
    ])
  func noDuration(_ text: String) {
    #expect(DurationText.parse(text) == nil)
  }

  @Test(
    "a described duration parses back",
    arguments: [
      Duration.zero, .seconds(5), .seconds(90), .seconds(3601), .milliseconds(1), .milliseconds(86_461_001),
    ])
  func describedDuration(_ duration: Duration) {
    #expect(DurationText.parse(DurationText.describe(duration)) == duration)
  }

  struct Workers: Sendable {
    let variables: [String: String]
    let processors: Int
    let expected: Int

    init(_ variables: [String: String], _ processors: Int, _ expected: Int) {
      (self.variables, self.processors, self.expected) = (variables, processors, expected)
    }
  }

  @Test(
    "the number of workers follows the first rule that applies",
    arguments: [
      // A quarter of the CPUs, at least two.
      Workers([:], 1, 2), Workers([:], 8, 2), Workers([:], 9, 3), Workers([:], 64, 16), Workers([:], 0, 2),
      Workers(["ZTUNNEL_RESOURCE_CPU_REQUEST": "5"], 8, 5),
      Workers(["ZTUNNEL_CPU_LIMIT": "40"], 8, 10),
      // The limit, raised to the request.
      Workers(["ZTUNNEL_RESOURCE_CPU_LIMIT": "1"], 8, 1),
      Workers(["ZTUNNEL_RESOURCE_CPU_LIMIT": "1500m"], 8, 2),
      Workers(["ZTUNNEL_RESOURCE_CPU_LIMIT": "1.0001"], 8, 2),
      Workers(["ZTUNNEL_RESOURCE_CPU_LIMIT": "2", "ZTUNNEL_RESOURCE_CPU_REQUEST": "3"], 8, 3),
      Workers(["ZTUNNEL_RESOURCE_CPU_LIMIT": "1000000"], 8, 1024),
      // What is asked for.
      Workers(["ZTUNNEL_WORKER_THREADS": "1"], 8, 1),
      Workers(["ZTUNNEL_WORKER_THREADS": "1024"], 8, 1024),
      Workers(["ZTUNNEL_WORKER_THREADS": "0"], 8, 8),
      Workers(["ZTUNNEL_WORKER_THREADS": "0", "ZTUNNEL_CPU_LIMIT": "3"], 8, 3),
      Workers(["ZTUNNEL_WORKER_THREADS": "7", "ZTUNNEL_RESOURCE_CPU_LIMIT": "2"], 8, 7),
      Workers(["ZTUNNEL_WORKER_THREADS": "25%"], 8, 2),
      Workers(["ZTUNNEL_WORKER_THREADS": "26%"], 8, 3),
      Workers(["ZTUNNEL_WORKER_THREADS": "100%"], 8, 8),
      Workers(["ZTUNNEL_WORKER_THREADS": "0.001%"], 8, 1),
      Workers(["ZTUNNEL_WORKER_THREADS": "12.5%"], 16, 2),
      Workers(["ZTUNNEL_WORKER_THREADS": "50%", "ZTUNNEL_RESOURCE_CPU_LIMIT": "6"], 64, 3),
    ])
  func workers(_ workers: Workers) throws {
    #expect(try configuration(workers.variables, processors: workers.processors).workerThreads == workers.expected)
  }

  @Test("a wrong CPU amount is told even where another variable decides")
  func workersAllChecked() throws {
    let error = try #require(throws: ConfigurationErrors.self) {
      try configuration(["ZTUNNEL_WORKER_THREADS": "2", "ZTUNNEL_CPU_LIMIT": "many"])
    }
    #expect(error.problems.map(\.variable) == ["ZTUNNEL_CPU_LIMIT"])
  }

  @Test(
    "the deadline is a little less than the grace period, and never underflows",
    arguments: [
      ("0", 1), ("1", 1), ("2", 1), ("3", 2), ("10", 9), ("11", 6), ("30", 25), ("31536000", 31_535_995),
    ])
  func gracePeriod(_ grace: String, _ seconds: Int) throws {
    let deadline = try configuration(["TERMINATION_GRACE_PERIOD_SECONDS": grace]).terminationDeadline
    #expect(deadline == .seconds(seconds))
  }

  @Test("a deadline of its own wins over the grace period")
  func ownDeadline() throws {
    let variables = ["CONNECTION_TERMINATION_DEADLINE": "0", "TERMINATION_GRACE_PERIOD_SECONDS": "30"]
    #expect(try configuration(variables).terminationDeadline == .zero)
  }

  @Test("a wrong grace period is told even where a deadline is set")
  func graceChecked() throws {
    let error = try #require(throws: ConfigurationErrors.self) {
      try configuration(["CONNECTION_TERMINATION_DEADLINE": "3s", "TERMINATION_GRACE_PERIOD_SECONDS": "x"])
    }
    #expect(error.problems.map(\.variable) == ["TERMINATION_GRACE_PERIOD_SECONDS"])
  }
}
