import Foundation
import Linux
import Telemetry

/// A pipe whose reading end collects what a writer wrote.
final class Capture {
  private let pipe = Pipe()

  var writingEnd: CInt { pipe.fileHandleForWriting.fileDescriptor }

  func output() throws -> SharedDescriptor {
    SharedDescriptor(Descriptor(owning: try system("dup") { dup(writingEnd) }))
  }

  func pipeline(filter: String, format: LogFormat = .plain) throws -> LogPipeline {
    let writer = try LogWriter(try output()) { droppedLinesNotice($0, format: format, time: .now) }
    return LogPipeline(format: format, filter: try LogFilter(filter), writer: writer)
  }

  /// Everything written so far, once the pipeline has caught up. Fits a pipe's buffer only.
  func lines(of pipeline: LogPipeline) -> [String] {
    guard pipeline.writer.flush() else { return ["the writer did not finish"] }
    return text().split(separator: "\n").map(String.init)
  }

  /// What can be read now without waiting.
  func text() -> String {
    let reader = pipe.fileHandleForReading.fileDescriptor
    let flags = fcntl(reader, F_GETFL)
    _ = fcntl(reader, F_SETFL, flags | O_NONBLOCK)
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65_536)
    while true {
      let count = read(reader, &chunk, chunk.count)
      guard count > 0 else { return String(decoding: bytes, as: UTF8.self) }
      bytes += chunk[..<count]
    }
  }

  func closeReader() { try? pipe.fileHandleForReading.close() }
}
