import Foundation
import Linux
import Synchronization

/// A service manager's end of `sd_notify(3)`: remembers what a process says, and keeps what it stores.
public final class NotifySocket: Sendable {
  private struct State {
    var messages: [String] = []
    var lastSign: ContinuousClock.Instant?
    var stored: [(name: String, descriptor: SharedDescriptor)] = []
  }

  /// The value of `NOTIFY_SOCKET`.
  public let path: String
  private let socket: SharedDescriptor
  private let state = Mutex(State())

  /// Binds the socket and listens on a thread of its own, until the last reference goes. Throws ``SystemError``.
  public init(path: String) throws {
    self.path = path
    let kind = CInt(SOCK_DGRAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
    socket = SharedDescriptor(Descriptor(owning: try system("socket") { Glibc.socket(AF_UNIX, kind, 0) }))
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    precondition(bytes.count < MemoryLayout.size(ofValue: address.sun_path))
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let raw = socket.raw
    try withUnsafePointer(to: address) { pointer in
      try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
        _ = try system("bind", path) { bind(raw, pointer, socklen_t(MemoryLayout<sockaddr_un>.size)) }
      }
    }
    let descriptor = socket
    Thread.detachNewThread { [weak self] in
      while true {
        let received = try? DescriptorPassing.receive(descriptor.raw, bytesAtMost: 4096, descriptorsAtMost: 64)
        guard let received, !received.bytes.isEmpty, let self else { return }
        receive(String(decoding: received.bytes, as: UTF8.self), received.descriptors)
      }
    }
  }

  deinit {
    shutdown(socket.raw, CInt(SHUT_RDWR))
    unlink(path)
  }

  /// Every message so far.
  public var messages: [String] { state.withLock { $0.messages } }

  /// When the last `WATCHDOG=1` came.
  public var lastSign: ContinuousClock.Instant? { state.withLock { $0.lastSign } }

  /// What is stored now.
  public var stored: [(name: String, descriptor: SharedDescriptor)] { state.withLock { $0.stored } }

  private func receive(_ message: String, _ descriptors: [SharedDescriptor]) {
    let fields = Dictionary(
      message.split(separator: "\n").compactMap { line -> (String, String)? in
        let pair = line.split(separator: "=", maxSplits: 1).map(String.init)
        return pair.count == 2 ? (pair[0], pair[1]) : nil
      }
    ) { $1 }
    state.withLock { state in
      state.messages.append(message)
      if fields["WATCHDOG"] == "1" { state.lastSign = .now }
      let name = fields["FDNAME"] ?? "stored"
      if fields["FDSTORE"] == "1" { state.stored += descriptors.map { (name, $0) } }
      if fields["FDSTOREREMOVE"] == "1" { state.stored.removeAll { $0.name == name } }
    }
    // A barrier's descriptor is closed here, which is what its sender waits for.
  }
}
