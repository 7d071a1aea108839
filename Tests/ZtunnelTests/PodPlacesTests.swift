import Testing

@testable import Ztunnel

@Suite("Pods with series of their own")
struct PodPlacesTests {
  private typealias Reports = [WorkerReport.PodName: WorkerReport.Pod]

  private func reports(_ pods: KeyValuePairs<String, UInt64>) -> Reports {
    Dictionary(
      uniqueKeysWithValues: pods.map { name, count in
        var pod = WorkerReport.Pod()
        pod.bytesSent = count
        pod.openedInbound = count
        pod.inboundConnections = 1
        return (WorkerReport.PodName(namespace: "shop", name: name), pod)
      })
  }

  /// Name and bytes.
  private func shown(_ places: inout PodPlaces, _ pods: KeyValuePairs<String, UInt64>) -> [String: UInt64] {
    Dictionary(uniqueKeysWithValues: places.show(reports(pods)).map { ($0.0.name, $0.1.bytesSent) })
  }

  @Test("keep them, whoever comes before them in the alphabet")
  func places() {
    var places = PodPlaces(limit: 2)
    #expect(shown(&places, ["c": 1, "d": 2]) == ["c": 1, "d": 2])
    #expect(shown(&places, ["a": 10, "c": 1, "d": 2]) == ["c": 1, "d": 2, "overflow": 10])
  }

  @Test("what the others have counted never falls, though they leave, get a place free beside them, or start anew")
  func monotonic() {
    var places = PodPlaces(limit: 1)
    _ = shown(&places, ["a": 1, "b": 10, "c": 100])
    #expect(shown(&places, ["a": 1, "b": 10, "c": 100])["overflow"] == 110)
    #expect(shown(&places, ["a": 1, "b": 12])["overflow"] == 112, "c has left")
    #expect(shown(&places, ["b": 12]) == ["overflow": 112], "a has left; b is not moved into its place")
    #expect(shown(&places, ["b": 3, "e": 7]) == ["e": 7, "overflow": 115], "b was started anew")
    #expect(shown(&places, [:]) == ["overflow": 115])
  }

  @Test("what is only true now is not remembered of those that have left")
  func gauges() {
    var places = PodPlaces(limit: 0)
    _ = places.show(reports(["a": 1, "b": 1]))
    let left = places.show(reports(["a": 1]))
    #expect(left.map(\.1.inboundConnections) == [1])
    #expect(left.map(\.1.openedInbound) == [2])
  }
}
