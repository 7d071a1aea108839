import Testing

@testable import Linux

@Suite("Change debounce")
struct ChangeDebounceTests {
  private let start = ContinuousClock.now

  @Test("a settled file is looked at a tenth of a second after the last event")
  func settled() {
    var debounce = ChangeDebounce()
    #expect(debounce.note(.settled, at: start) == start + .milliseconds(100))
    #expect(debounce.note(.settled, at: start + .milliseconds(60)) == start + .milliseconds(160))
  }

  @Test("a file that is being written is left alone for a second")
  func beingWritten() {
    var debounce = ChangeDebounce()
    #expect(debounce.note(.beingWritten, at: start) == start + .seconds(1))
  }

  @Test("closing a written file brings the look forward")
  func closed() {
    var debounce = ChangeDebounce()
    _ = debounce.note(.beingWritten, at: start)
    #expect(debounce.note(.settled, at: start + .milliseconds(20)) == start + .milliseconds(120))
  }

  @Test("events elsewhere in the directory do not end the wait for a writer")
  func elsewhere() {
    var debounce = ChangeDebounce()
    _ = debounce.note(.beingWritten, at: start)
    #expect(debounce.note(.elsewhere, at: start + .milliseconds(20)) == start + .milliseconds(1020))
  }

  @Test("a busy directory cannot put the look off for longer than a second")
  func busyDirectory() {
    var debounce = ChangeDebounce()
    var deadline = start
    for step in 0..<19 { deadline = debounce.note(.elsewhere, at: start + .milliseconds(50 * step)) }
    #expect(deadline == start + .seconds(1))
  }

  @Test("a writer without end cannot put the look off for longer than ten seconds")
  func endlessWriter() {
    var debounce = ChangeDebounce()
    var deadline = start
    for step in 0..<20 { deadline = debounce.note(.beingWritten, at: start + .milliseconds(500 * step)) }
    #expect(deadline == start + .seconds(10))
  }

  @Test("after a look the next event begins anew")
  func reset() {
    var debounce = ChangeDebounce()
    _ = debounce.note(.beingWritten, at: start)
    debounce.reset()
    #expect(debounce.note(.elsewhere, at: start + .seconds(20)) == start + .seconds(20) + .milliseconds(100))
  }
}
