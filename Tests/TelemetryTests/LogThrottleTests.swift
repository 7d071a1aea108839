import Telemetry
import Testing

@Suite("Log lines that come again and again")
struct LogThrottleTests {
  @Test("are written once in a while, with the number held back")
  func throttles() {
    let throttle = LogThrottle(interval: .seconds(10))
    let start = ContinuousClock.now
    #expect(throttle.admit(at: start) == 0)
    for second in 1...9 { #expect(throttle.admit(at: start + .seconds(second)) == nil) }
    #expect(throttle.admit(at: start + .seconds(10)) == 9)
    #expect(throttle.admit(at: start + .seconds(30)) == 0)
  }
}
