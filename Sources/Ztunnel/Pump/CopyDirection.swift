import CLinux
import Glibc
import Linux

/// One direction of a plain connection: what one socket gives, the other gets, then its end.
///
/// It starts with a copy through a buffer, which is best for small messages, and moves to `splice` once enough has
/// passed to call it bulk: the bytes then never enter user space.
final class CopyDirection {
  enum Step: Equatable {
    /// Waits for one of the sockets.
    case waiting
    /// Its turn is over, but it could go on.
    case more
    /// The end has been passed on.
    case finished
    case failed(CInt, whileReading: Bool)
  }

  var readable = true
  var writable = true
  /// The source has ended, failed or holds an urgent byte, at which a read stops.
  var shortReadsProveNothing = false
  /// The source's end has been read.
  var hasSourceEnded: Bool { ended }
  private(set) var moved: UInt64 = 0

  private let source: CInt
  private let sink: CInt
  private var ended = false
  private var isFinished = false
  private var pending = PendingBytes()
  private var pipe: Pipe?
  private var inPipe = 0

  private struct Pipe {
    let reading: SharedDescriptor
    let writing: SharedDescriptor
  }

  /// Bytes after which a connection counts as bulk.
  private static let bulk: UInt64 = 1 << 20
  /// As fast as four times as much was, and what is on its way stays in the processor's caches. It is also what an
  /// unprivileged process gets without counting: 64 MiB are the limit of one user's pipes (pipe(7)).
  private static let pipeCapacity = 256 << 10
  /// Reads and writes of one turn.
  private static let turn = 4

  /// Where a direction was left, for somebody else to go on from.
  struct Position: Equatable, Sendable {
    /// Bytes that the sink has taken.
    var moved: UInt64 = 0
    /// Read, but not taken by the sink yet.
    var pending: [UInt8] = []
    /// The source's end has been read.
    var hasEnded = false
    /// That end has been passed on.
    var isFinished = false
  }

  init(from source: CInt, to sink: CInt, at position: Position = Position()) {
    self.source = source
    self.sink = sink
    moved = position.moved
    ended = position.hasEnded
    isFinished = position.isFinished
    position.pending.withUnsafeBytes { pending.append($0) }
  }

  /// Where it stands; it must not be advanced any more. Nil when what is in the pipe cannot be had.
  func leave() -> Position? {
    var position = Position(
      moved: moved, pending: pending.withBytes { Array($0) }, hasEnded: ended, isFinished: isFinished)
    guard let pipe, inPipe > 0 else { return position }
    // The pipe is filled only when nothing else waits, and emptied before anything else is read.
    var rest = [UInt8](repeating: 0, count: inPipe)
    var count = 0
    while count < inPipe {
      let result = rest.withUnsafeMutableBytes {
        let room = UnsafeMutableRawBufferPointer(rebasing: $0[count...])
        return Glibc.read(pipe.reading.raw, room.baseAddress, room.count)
      }
      if result < 0, errno == EINTR { continue }
      guard result > 0 else { return nil }
      count += result
    }
    position.pending += rest
    return position
  }

  /// Moves what can be moved now, through `scratch` where it is copied.
  func advance(_ scratch: UnsafeMutableRawBufferPointer) -> Step {
    if isFinished { return .finished }
    for _ in 0..<Self.turn {
      if !pending.isEmpty || inPipe > 0 {
        guard writable else { return .waiting }
        switch inPipe > 0 ? writePipe() : pending.withBytes({ RawIO.write(sink, $0) }) {
        case .moved(let count):
          if inPipe > 0 { inPipe -= count } else { pending.removeFirst(count) }
          moved += UInt64(count)
        case .wouldBlock, .ended: writable = false
        case .failed(let number): return .failed(number, whileReading: false)
        }
        continue
      }
      if ended {
        isFinished = true
        TCPSocket.shutdownWrite(sink)
        return .finished
      }
      guard readable else { return .waiting }
      if pipe == nil, moved >= Self.bulk { makePipe() }
      let result = pipe == nil ? copy(scratch) : fillPipe()
      if case .failed(let number) = result { return .failed(number, whileReading: true) }
    }
    return .more
  }

  private func copy(_ scratch: UnsafeMutableRawBufferPointer) -> IOResult {
    let result = RawIO.read(source, scratch)
    switch result {
    case .moved(let count):
      if count < scratch.count, !shortReadsProveNothing { readable = false }
      let chunk = UnsafeRawBufferPointer(rebasing: scratch[..<count])
      switch writable ? RawIO.write(sink, chunk) : .wouldBlock {
      case .moved(let written):
        moved += UInt64(written)
        if written < count { pending.append(UnsafeRawBufferPointer(rebasing: chunk[written...])) }
      case .wouldBlock, .ended:
        writable = false
        pending.append(chunk)
      // Reported by the write that follows, as a failure to write.
      case .failed: pending.append(chunk)
      }
    case .ended: ended = true
    case .wouldBlock: readable = false
    case .failed: break
    }
    return result
  }

  private func fillPipe() -> IOResult {
    guard let pipe else { return .wouldBlock }
    let result = RawIO.splice(from: source, to: pipe.writing.raw, Self.pipeCapacity, endMeansEnd: true)
    switch result {
    case .moved(let count): inPipe = count
    case .ended: ended = true
    // The pipe is empty here, so it is the socket that has nothing.
    case .wouldBlock: readable = false
    case .failed: break
    }
    return result
  }

  private func writePipe() -> IOResult {
    guard let pipe else { return .wouldBlock }
    return RawIO.splice(from: pipe.reading.raw, to: sink, inPipe, endMeansEnd: false)
  }

  private func makePipe() {
    var ends: [CInt] = [-1, -1]
    // Without one the copy goes on as before.
    guard ambient_pipe(&ends, CInt(Self.pipeCapacity)) == 0 else { return }
    pipe = Pipe(
      reading: SharedDescriptor(Descriptor(owning: ends[0])), writing: SharedDescriptor(Descriptor(owning: ends[1])))
  }
}
