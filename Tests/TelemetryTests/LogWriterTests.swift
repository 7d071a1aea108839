import Foundation
import Linux
import Telemetry
import Testing

@Suite("The log writer", .timeLimit(.minutes(1)))
struct LogWriterTests {
  private func line(_ text: String) -> [UInt8] { Array("\(text)\n".utf8) }

  private func writer(to output: SharedDescriptor, _ limits: LogWriter.Limits = .init()) throws -> LogWriter {
    try LogWriter(output, limits: limits) { Array("dropped \($0)\n".utf8) }
  }

  @Test("keeps every line of many threads whole and each thread's lines in order")
  func manyThreads() async throws {
    let path = FileManager.default.temporaryDirectory.appending(path: "log-writer-\(UUID().uuidString)").path
    defer { unlink(path) }
    let file = try Descriptor.open(path, O_WRONLY | O_CREAT | O_EXCL)
    let writer = try writer(to: SharedDescriptor(file))
    DispatchQueue.concurrentPerform(iterations: 8) { thread in
      for index in 0..<1000 {
        writer.write(line("thread \(thread) line \(index) \(String(repeating: "x", count: 99))"))
      }
    }
    #expect(writer.flush(atMost: .seconds(10)))
    let lines = try String(contentsOfFile: path, encoding: .utf8).split(separator: "\n")
    #expect(lines.count == 8000)
    for thread in 0..<8 {
      let own = lines.filter { $0.hasPrefix("thread \(thread) ") }.map { $0.split(separator: " ")[3] }
      #expect(own == (0..<1000).map { "\($0)" })
    }
    #expect(writer.counts.dropped == 0)
  }

  @Test("drops instead of waiting when the reader stalls, and says later how many")
  func stalledReader() throws {
    let output = Capture()
    let writer = try writer(to: try output.output(), .init(lines: 100))
    // A pipe holds 64 KiB, so the thread is stuck in its first write and the queue fills behind it.
    let long = [UInt8](repeating: UInt8(ascii: "x"), count: 99_999) + [10]
    let start = ContinuousClock.now
    for _ in 0..<150 { writer.write(long) }
    #expect(ContinuousClock.now - start < .seconds(5))
    #expect(writer.counts.accepted == 100)
    #expect(writer.counts.dropped == 50)
    #expect(!writer.flush(atMost: .milliseconds(50)))

    var text = ""
    let deadline = ContinuousClock.now + .seconds(20)
    while !text.contains("dropped 50\n"), ContinuousClock.now < deadline {
      text += output.text()
      usleep(1000)
    }
    #expect(text.hasSuffix("x\ndropped 50\n"))
    #expect(text.split(separator: "\n").count == 101)
    #expect(writer.flush())
    #expect(writer.write(line("again")))
  }

  @Test("bounds the bytes it holds as well as the lines")
  func byteBound() throws {
    let writer = try writer(to: try Capture().output(), .init(lines: 100, bytes: 1000))
    #expect(!writer.write([UInt8](repeating: 120, count: 1001)))
    #expect(writer.write([UInt8](repeating: 120, count: 1000)))
  }

  @Test("outlives a reader that goes away")
  func brokenPipe() throws {
    let output = Capture()
    let writer = try writer(to: try output.output())
    output.closeReader()
    writer.write(line("lost"))
    #expect(writer.flush())
    #expect(writer.counts.failed == 1)
  }

  @Test("waits for a reader of a non-blocking pipe")
  func nonBlockingOutput() throws {
    let output = Capture()
    let descriptor = try output.output()
    let flags = fcntl(descriptor.raw, F_GETFL)
    try #require(fcntl(descriptor.raw, F_SETFL, flags | O_NONBLOCK) == 0)
    let writer = try writer(to: descriptor)
    for index in 0..<20 { writer.write(line("\(index) " + String(repeating: "x", count: 9_990))) }
    var text = ""
    let deadline = ContinuousClock.now + .seconds(20)
    while text.count(where: { $0 == "\n" }) < 20, ContinuousClock.now < deadline {
      text += output.text()
      usleep(1000)
    }
    #expect(text.split(separator: "\n").map { $0.prefix { $0 != " " } } == (0..<20).map { "\($0)" })
  }

  @Test("writes what is queued when it is let go")
  func release() throws {
    let output = Capture()
    do {
      let writer = try writer(to: try output.output())
      for index in 0..<100 { writer.write(line("\(index)")) }
    }
    var text = ""
    let deadline = ContinuousClock.now + .seconds(5)
    while !text.hasSuffix("99\n"), ContinuousClock.now < deadline {
      text += output.text()
      usleep(1000)
    }
    #expect(text == (0..<100).map { "\($0)\n" }.joined())
  }
}
