import Foundation
import Testing

@testable import Metrics

@Suite("Metrics")
struct MetricsTests {
  private let registry = MetricRegistry(prefix: "test")

  private func text(_ format: MetricFormat = .openMetrics) -> String {
    String(decoding: registry.text(format), as: UTF8.self)
  }

  @Test("a registry without samples is an empty OpenMetrics text")
  func empty() {
    _ = registry.counters("c", "Never counted", labels: ["x"])
    #expect(text() == "# EOF\n")
    #expect(text(.prometheus) == "")
  }

  @Test("a counter's type has no suffix, its samples do; the mark says what is unstable")
  func counter() {
    registry.counter("requests", "All requests").add(3)
    registry.counter("stable_bytes", "All bytes", isStable: true).add(2)
    #expect(
      text() == """
        # HELP requests All requests (unstable).
        # TYPE requests counter
        requests_total 3
        # HELP stable_bytes All bytes.
        # TYPE stable_bytes counter
        stable_bytes_total 2
        # EOF

        """)
  }

  @Test("the older text has the suffix in the type too, and no end")
  func olderText() {
    registry.counter("requests", "All requests").add()
    #expect(text(.prometheus).contains("# TYPE requests_total counter\nrequests_total 1\n"))
    #expect(!text(.prometheus).contains("EOF"))
  }

  @Test("a histogram has cumulative buckets, a sum, a count and its unit")
  func histogram() {
    let histogram = registry.histograms("d_seconds", "Time", labels: ["kind"], bounds: [0.001, 0.5, 1])("x")
    for time in [Duration.microseconds(1), .milliseconds(1), .milliseconds(600), .seconds(9)] {
      histogram.observe(time)
    }
    #expect(
      text() == """
        # HELP d_seconds Time (unstable).
        # TYPE d_seconds histogram
        # UNIT d_seconds seconds
        d_seconds_bucket{kind="x",le="0.001"} 2
        d_seconds_bucket{kind="x",le="0.5"} 2
        d_seconds_bucket{kind="x",le="1.0"} 3
        d_seconds_bucket{kind="x",le="+Inf"} 4
        d_seconds_sum{kind="x"} 9.601001
        d_seconds_count{kind="x"} 4
        # EOF

        """)
  }

  @Test("label values are escaped, and never empty")
  func labels() {
    registry.gauges("g", "Gauge", labels: ["a", "b"])("x\"\\\n", "").set(-1)
    #expect(text().contains("g{a=\"x\\\"\\\\\\n\",b=\"unknown\"} -1\n"))
  }

  @Test("shards of one label set are shown as their sum")
  func shards() {
    let family = registry.counters("c", "Counted", labels: ["x"])
    let (first, second) = (family.shard(["a"]), family.shard(["a"]))
    first.addAlone(2)
    second.addAlone(3)
    family("a").add(4)
    let shard = family.makeShard()
    shard["a"].add(1)
    #expect(text().contains("c_total{x=\"a\"} 10\n"))
  }

  @Test("too many label sets are folded into one, and that is counted")
  func overflow() {
    let family = registry.counters("c", "Counted", labels: ["x"])
    for index in 0..<(MetricRegistry.mostSeries + 7) { family("\(index)").add() }
    let text = text()
    #expect(text.contains("c_total{x=\"overflow\"} 7\n"))
    #expect(text.contains("test_metrics_folded_total{metric=\"c\"} 7\n"))
    #expect(text.split(separator: "\n").count { $0.hasPrefix("c_total") } == MetricRegistry.mostSeries + 1)
  }

  @Test("a removed series is shown no longer")
  func removal() {
    let family = registry.counters("c", "Counted", labels: ["x"])
    family("a").add()
    family("b").add()
    family.remove(["a"])
    #expect(!text().contains("x=\"a\""))
    #expect(text().contains("x=\"b\""))
  }

  @Test(
    "OpenMetrics is for those who name it",
    arguments: [
      ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", true),
      ("text/plain, Application/OpenMetrics-Text ; q=0.1", true),
      ("*/*", false), ("", false), ("text/plain", false), ("application/openmetrics-textual", false),
    ])
  func negotiation(_ accept: String, _ isOpenMetrics: Bool) {
    let members = accept.lowercased().split(separator: ",").map { $0.trimmingCharacters(in: .whitespaces) }
    #expect((MetricFormat(accept: members) == .openMetrics) == isOpenMetrics)
  }

  @Test("metrics of the process are there")
  func process() {
    registry.addProcessMetrics()
    let text = text()
    for name in ["process_open_fds", "process_max_fds", "process_resident_memory_bytes", "process_cpu_seconds_total"] {
      #expect(text.contains("\n\(name) "), "\(name)")
    }
  }
}
