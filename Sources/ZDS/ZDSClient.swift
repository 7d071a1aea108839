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
  /// One instruction, with the listening sockets that the agent keeps for the workload of an add. The next is read only
  /// after this one was answered.
  func follow(
    _ instruction: WorkloadInstruction<NetworkNamespace>, with sockets: [SharedDescriptor]
  ) async -> InstructionAnswer
  /// The listening sockets of a workload that runs. They are passed to an agent that keeps them.
  func sockets(of uid: WorkloadUID) -> [SharedDescriptor]
  /// The agent has been sent the sockets of a workload. They are not kept any more once the connection has ended.
  func handedOver(_ uid: WorkloadUID)
  /// Whether there is a valid certificate for this workload; nil: nobody can tell.
  func holdsIdentity(of uid: WorkloadUID) -> Bool?
  /// Take new connections from now on, or leave them to another ztunnel.
  func take(_ duty: Handover.Duty) async
}

extension ZDSClientHandler {
  public func holdsIdentity(of uid: WorkloadUID) -> Bool? { nil }
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
  private let started = BootClock.milliseconds
  private var duty = Handover.Duty.accept
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
        let succession = ZDSHello.Succession(
          started: started, isResting: duty == .rest, tellsIdentities: true)
        try socket.send(ZDSHello(succession: succession).encoded())
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
        let request: IncomingRequest
        do throws(ZDSError) {
          guard let next = try await next(socket) else { continue }
          request = next
        } catch {
          if stopping { return .stopped }
          // The agent learns why before the connection ends; if it is gone already, nothing is lost.
          try socket.send(ZDSResponse.refused(error.description).encoded())
          return error
        }
        if let end = try await answer(request, on: socket) { return end }
      } catch { return error }
    }
  }

  /// Has one request carried out and answers it. Returns why the connection is to end, if it is.
  private func answer(_ request: IncomingRequest, on socket: PacketSocket) async throws(ZDSError) -> ZDSError? {
    switch request.content {
    case .duty(let duty):
      self.duty = duty
      await handler.take(duty)
      if stopping { return .stopped }
      try socket.send(ZDSResponse.acknowledged.encoded())
    case .identity(let uid):
      try socket.send(ZDSResponse.acknowledged.encoded(identity: handler.holdsIdentity(of: uid)))
    case .instruction(let instruction, let sockets):
      let answer = await handler.follow(instruction, with: sockets)
      if stopping { return .stopped }
      switch answer {
      case .acknowledge: try acknowledge(instruction, toKeeper: request.agentKeepsSockets, on: socket)
      case .refuse(let reason): try socket.send(ZDSResponse.refused(reason).encoded())
      case .refuseAndClose(let error):
        try socket.send(ZDSResponse.refused(error.description).encoded())
        return error
      }
      if case .snapshotSent = instruction { backOff.reset() }
    }
    return nil
  }

  private func acknowledge(
    _ instruction: WorkloadInstruction<NetworkNamespace>, toKeeper agentKeepsSockets: Bool, on socket: PacketSocket
  ) throws(ZDSError) {
    guard agentKeepsSockets, case .add(let uid, _, _) = instruction else {
      return try socket.send(ZDSResponse.acknowledged.encoded())
    }
    let sockets = Array(handler.sockets(of: uid).prefix(Handover.mostSockets))
    try socket.send(ZDSResponse.acknowledged.encoded(with: sockets.count), passing: sockets)
    if !sockets.isEmpty { handler.handedOver(uid) }
  }

  /// The next request, or nil when there was nothing to read after all.
  private func next(_ socket: PacketSocket) async throws(ZDSError) -> IncomingRequest? {
    do { try await loop.readable(socket.descriptor.raw) } catch {
      switch error {
      case .deadlineExceeded: return nil
      case .system(let error): throw .system(error)
      }
    }
    switch try socket.receive(descriptorsAtMost: 1 + Handover.mostSockets) {
    case .nothing: return nil
    case .endOfFile: throw .closedByPeer
    case .packet(let bytes, let descriptors): return try IncomingRequest(bytes, descriptors)
    }
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
