import HTTP2
import Testing

@testable import Ztunnel

@Suite("The log of one pod")
struct PodLogTests {
  @Test(
    "takes the trace's id from a peer's header only where it is one",
    arguments: [
      ("00-0123456789abcdef0123456789abcdef-0123456789abcdef-00", "0123456789abcdef0123456789abcdef"),
      ("00-0123456789ABCDEF0123456789abcdef-0123456789abcdef-00", nil), ("00-0123-4567-00", nil), ("", nil),
      ("00-0123456789abcdef0123456789abcde\n-0123456789abcdef-00", nil),
    ] as [(String, String?)])
  func traceID(_ header: String, _ id: String?) {
    #expect(PodLog.traceID(HTTP2Headers([("traceparent", header)])) == id)
  }

  @Test("finds the id that a request is given")
  func ownRequests() {
    var random = FastRandom()
    let header = TunnelHeaders.traceparent(using: &random)
    #expect(PodLog.traceID(HTTP2Headers([("traceparent", header)])) == String(header.dropFirst(3).prefix(32)))
    #expect(PodLog.traceID(HTTP2Headers()) == nil)
  }
}
