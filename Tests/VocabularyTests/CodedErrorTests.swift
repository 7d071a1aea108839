import Testing

@testable import Vocabulary

@Suite struct CodedErrorTests {
  private struct Failure: CodedError {
    var code = "PORT_TAKEN"
    var summary = "port 80 is taken"
    var remedy: String?
  }

  @Test("an error reads as code, summary and remedy")
  func description() {
    #expect(Failure().description == "PORT_TAKEN: port 80 is taken")
    #expect(Failure(remedy: "stop the other one").description == "PORT_TAKEN: port 80 is taken (stop the other one)")
  }
}
