import Linux
import Synchronization
import TestSupport
import Vocabulary

@testable import Ztunnel

/// Copies connections to a port of one namespace into connections made in another, byte for byte: what a network
/// gateway does with the inside of a tunnel.
final class GatewayRelay: Sendable {
  private let loop: EventLoop
  private let relayed = Mutex(0)

  /// Listens on `port` in `holder`, and connects to `target` from `outside`.
  init(in holder: some NamespaceHolder, port: UInt16, to target: SocketAddress, from outside: some NamespaceHolder)
    throws
  {
    loop = try EventLoop(name: "relay")
    let listener = try holder.place.namespace.enter { SharedDescriptor(try TCPSocket.make(.v6)) }
    try TCPSocket.setReuseAddress(listener.raw)
    try TCPSocket.bind(listener.raw, .v6, to: SocketAddress(.any(.v6), port))
    try TCPSocket.listen(listener.raw, backlog: 64)
    try loop.start()
    let namespace = outside.place.namespace
    loop.spawn { [self] in
      while (try? await loop.readable(listener.raw)) != nil {
        guard let accepted = try? TCPSocket.accept(listener.raw) else { continue }
        let client = SharedDescriptor(accepted.take())
        loop.spawn { [self] in await relay(client, to: target, in: namespace) }
      }
    }
  }

  /// Connections relayed so far.
  var count: Int { relayed.withLock { $0 } }

  func stop() {
    loop.stop()
    loop.join()
  }

  private func relay(_ client: SharedDescriptor, to target: SocketAddress, in namespace: NetworkNamespace) async {
    guard let upstream = try? namespace.enter({ SharedDescriptor(try TCPSocket.make(target.ip.family)) }),
      (try? TCPSocket.connect(upstream.raw, target.ip.family, to: target)) != nil,
      (try? await loop.writable(upstream.raw, until: .now + .seconds(5))) != nil
    else { return }
    relayed.withLock { $0 += 1 }
    let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 64)
    defer { scratch.deallocate() }
    let pump = SocketPump(client: client, upstream: upstream, loop: loop, scratch: scratch)
    await withUnsafeContinuation { (continuation: UnsafeContinuation<Void, Never>) in
      pump.start { _ in continuation.resume() }
    }
  }
}
