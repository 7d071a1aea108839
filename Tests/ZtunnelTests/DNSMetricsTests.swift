import DNS
import Testing

@testable import Ztunnel

@Suite("DNS metrics")
struct DNSMetricsTests {
  private func labels(_ service: String = "web", _ type: RecordType? = .a) -> DNSMetrics.Labels {
    DNSMetrics.Labels(type, .datagrams, service: service, revision: "")
  }

  @Test("labels are those of the dashboards; what has no name counts as other or unknown")
  func names() {
    #expect(labels("web", .aaaa).queryType == "aaaa")
    #expect(labels("", RecordType(rawValue: 65000)).queryType == "other")
    #expect(labels("").canonicalService == "unknown" && labels().canonicalRevision == "unknown")
    #expect(labels().transport == "udp")
    #expect(DNSMetrics.Labels(nil, .stream, service: nil, revision: nil).transport == "tcp")
  }

  @Test("queries, what was forwarded, what failed and how long it took are counted, and put together")
  func counts() throws {
    var (first, second) = (DNSMetrics(), DNSMetrics())
    first.countRequest(labels())
    first.countUpstream(labels(), failed: false, after: .milliseconds(1))
    second.countRequest(labels())
    second.countUpstream(labels(), failed: true, after: .seconds(10))
    second.countRequest(labels("mail"))
    first.merge(second)
    let counts = try #require(first.counts[labels()])
    #expect(counts.requests == 2 && counts.upstreamRequests == 2 && counts.upstreamFailures == 1)
    #expect(counts.upstreamDurations == [0, 1, 0, 0, 0, 0, 1])
    #expect(abs(counts.upstreamSeconds - 10.001) < 0.000_001)
    #expect(first.counts[labels("mail")]?.requests == 1)
  }

  @Test("more label sets than are kept apart are counted together")
  func bounded() {
    var metrics = DNSMetrics()
    for number in 0..<5000 { metrics.countRequest(labels("service-\(number)")) }
    #expect(metrics.counts.count <= DNSMetrics.mostLabels + 1)
    #expect(metrics.counts.values.reduce(0) { $0 + $1.requests } == 5000)
  }
}
