import Glibc
import Linux

/// What ztunnel does with what the node agent says. Called on the client's event loop, one call at a time.
public protocol ZDSClientHandler: AnyObject {
  /// The hello was sent; a snapshot follows.
  func connected()
  /// The connection ended. The client dials again by itself; what runs goes on running.
  func disconnected(_ error: ZDSError)
  /// A try to connect failed; the next one follows after `delay`.
  func dialFailed(_ error: ZDSError, retryIn delay: Duration)
  /// One instruction. The next is read only after this one was answered.
  func follow(_ instruction: WorkloadInstruction<NetworkNamespace>) async -> InstructionAnswer
}

/// Ztunnel's end of the socket: dials, says hello, and hands on one instruction after the other (zds.md §7).
///
/// Belongs to its event loop: make it, run it and stop it there.
public final class ZDSClient {
  private let path: UnixSocketPath
  private let loop: EventLoop
  private let handler: any ZDSClientHandler
  private var backOff: DialBackOff
  private var random = SystemRandomNumberGenerator()
  private var socket: PacketSocket?
  private var stopping = false
  private var pause: (timer: LoopTimer, continuation: CheckedContinuation<Void, Never>)?

  public init(
    path: UnixSocketPath, backOff: DialBackOff = .init(), on loop: EventLoop, handler: any ZDSClientHandler
  ) {
    self.path = path
    self.backOff = backOff
    self.loop = loop
    self.handler = handler
  }

  /// Stays connected, as far as it can, until ``stop()``. Call it in a task of the loop, once.
  public func run() async {
    while !stopping {
      let error: ZDSError
      do throws(ZDSError) {
        let socket = try PacketSocket.dial(path)
        try socket.send(ZDSHello().encoded())
        self.socket = socket
        handler.connected()
        error = await serve(socket)
        self.socket = nil
        handler.disconnected(error)
        // Without a pause here a listener that accepts and hangs up would be dialled in a tight loop; after a session
        // that became live the pause is as short as it gets.
        if !stopping { await wait(for: backOff.delay(using: &random)) }
      } catch {
        let delay = backOff.delay(using: &random)
        handler.dialFailed(error, retryIn: delay)
        if !stopping { await wait(for: delay) }
      }
    }
  }

  /// Ends ``run()``: closes the connection, or the wait for one. An instruction under way is not answered any more.
  public func stop() {
    stopping = true
    socket?.shutDown()
    if let pause {
      pause.timer.cancel()
      pause.continuation.resume()
      self.pause = nil
    }
  }

  /// Reads and answers until the connection ends; returns why it did.
  private func serve(_ socket: PacketSocket) async -> ZDSError {
    while true {
      do throws(ZDSError) {
        let instruction: WorkloadInstruction<NetworkNamespace>
        do throws(ZDSError) {
          guard let next = try await next(socket) else { continue }
          instruction = next
        } catch {
          if stopping { return .stopped }
          // The agent learns why before the connection ends; if it is gone already, nothing is lost.
          try socket.send(ZDSResponse.refused(error.description).encoded())
          return error
        }
        let answer = await handler.follow(instruction)
        if stopping { return .stopped }
        switch answer {
        case .acknowledge: try socket.send(ZDSResponse.acknowledged.encoded())
        case .refuse(let reason): try socket.send(ZDSResponse.refused(reason).encoded())
        case .refuseAndClose(let error):
          try socket.send(ZDSResponse.refused(error.description).encoded())
          return error
        }
        if case .snapshotSent = instruction { backOff.reset() }
      } catch { return error }
    }
  }

  /// The next instruction, or nil when there was nothing to read after all.
  private func next(_ socket: PacketSocket) async throws(ZDSError) -> WorkloadInstruction<NetworkNamespace>? {
    do { try await loop.readable(socket.descriptor.raw) } catch {
      switch error {
      case .deadlineExceeded: return nil
      case .system(let error): throw .system(error)
      }
    }
    switch try socket.receive() {
    case .nothing: return nil
    case .endOfFile: throw .closedByPeer
    case .packet(let bytes, let descriptor): return try Self.instruction(bytes, descriptor)
    }
  }

  /// Joins what was said with what came with it (zds.md §3). Throws ``ZDSError``.
  static func instruction(
    _ bytes: [UInt8], _ descriptor: consuming Descriptor?
  ) throws(ZDSError) -> WorkloadInstruction<NetworkNamespace> {
    let request = try ZDSRequest(decoding: bytes)
    guard let passed = consume descriptor else {
      switch request {
      case .add: throw .descriptorMissing
      case .keep(let uid): return .keep(uid)
      case .delete(let uid): return .delete(uid)
      case .snapshotSent: return .snapshotSent
      }
    }
    guard case .add(let uid, let info) = request else { throw .unexpectedDescriptors(count: 1) }
    do {
      return .add(uid, info, in: try NetworkNamespace(adopting: passed, subject: "the descriptor of \(info)"))
    } catch { return .addWithoutNamespace(uid, error) }
  }

  private func wait(for delay: Duration) async {
    await withCheckedContinuation { continuation in
      let timer = loop.schedule(after: delay) { [weak self] in
        self?.pause = nil
        continuation.resume()
      }
      pause = (timer, continuation)
    }
  }
}
