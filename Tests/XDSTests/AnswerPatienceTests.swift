import Testing

@testable import XDS

@Suite("Patience with a control plane that says nothing")
struct AnswerPatienceTests {
  @Test("half a minute, then twice as long each time up to five, and half a minute again after an answer")
  func doubling() {
    var patience = AnswerPatience()
    for seconds in [30, 60, 120, 240, 300, 300] {
      #expect(patience.begin() == .seconds(seconds))
      #expect(patience.exceeded == nil)
      patience.exceed()
      #expect(patience.exceeded == .seconds(seconds))
    }
    _ = patience.begin()
    patience.answered()
    #expect(patience.begin() == .seconds(30))
  }
}
