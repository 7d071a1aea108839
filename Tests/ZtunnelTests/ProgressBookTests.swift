import Testing

@testable import Ztunnel

@Suite("Signs of life")
struct ProgressBookTests {
  private let start = ContinuousClock.now

  @Test("are given when every worker has answered since the last one")
  func allAnswered() {
    var book = ProgressBook(workers: 2)
    #expect(!book.haveAllAnswered(since: start))
    let asked = book.ask(at: start)
    #expect(asked == [0, 1])
    book.answer(from: 0, at: start + .seconds(1))
    #expect(!book.haveAllAnswered(since: start))
    book.answer(from: 1, at: start + .seconds(2))
    #expect(book.haveAllAnswered(since: start))
    #expect(!book.haveAllAnswered(since: start + .milliseconds(1500)), "worker 0 answered before that")
  }

  @Test("are not asked for twice of a worker that owes one, and it is named when it owes it for too long")
  func stalled() {
    var book = ProgressBook(workers: 2)
    _ = book.ask(at: start)
    book.answer(from: 0, at: start)
    let askedAgain = book.ask(at: start + .seconds(1))
    #expect(askedAgain == [0])
    #expect(book.stalled(at: start + .seconds(3), longerThan: .seconds(2)) == [1])
    book.answer(from: 1, at: start + .seconds(4))
    #expect(book.stalled(at: start + .seconds(4), longerThan: .seconds(5)).isEmpty)
    book.answer(from: 7, at: start)
  }
}

@Suite("The end of the process")
struct ProcessEndTests {
  @Test("asked once drains, asked twice cuts, asked three times leaves")
  func steps() {
    var end = ProcessEnd()
    #expect(!end.hasBegun)
    let actions = (0..<4).map { _ in end.asked() }
    #expect(actions == [.drain, .cut, .leave, .leave])
    #expect(end.hasBegun)
  }

  @Test(
    "the last words are short, and leave time for the others", arguments: [(25, 3000), (6, 3000), (1, 500), (0, 0)])
  func lastWords(_ deadline: Int, _ milliseconds: Int) {
    #expect(ProcessEnd.lastWords(of: .seconds(deadline)) == .milliseconds(milliseconds))
  }
}
