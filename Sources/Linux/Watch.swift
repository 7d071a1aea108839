import CLinux
import Glibc

/// What epoll reported about a descriptor.
public struct ReadyEvents: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static let readable = ReadyEvents(rawValue: EPOLLIN.rawValue)
  public static let writable = ReadyEvents(rawValue: EPOLLOUT.rawValue)
  /// An urgent byte came (TCP's out-of-band mark): reads stop there.
  public static let urgent = ReadyEvents(rawValue: EPOLLPRI.rawValue)
  /// The peer will send no more.
  public static let peerClosed = ReadyEvents(rawValue: EPOLLRDHUP.rawValue)
  /// Both directions are gone. Always reported, never asked for.
  public static let hangUp = ReadyEvents(rawValue: EPOLLHUP.rawValue)
  /// An error is pending on the socket. Always reported, never asked for.
  public static let error = ReadyEvents(rawValue: EPOLLERR.rawValue)

  static let edgeTriggered = ReadyEvents(rawValue: 1 << 31)
  static let oneShot = ReadyEvents(rawValue: 1 << 30)
  /// Wakes one of several loops that watch the same open file, not all of them.
  static let exclusive = ReadyEvents(rawValue: 1 << 28)
}

/// How a descriptor is watched.
public enum WatchMode: Sendable {
  /// Reported again as long as the condition holds.
  case level
  /// Reported once a change; the owner reads or writes until the kernel says "again". One system call a lifetime.
  case edge
  /// Level-triggered, for a listener that several loops share: one of them wakes.
  case shared
}

/// Interest in one descriptor. Belongs to one event loop's thread; the descriptor must stay open until ``cancel()``.
public final class Watch {
  let raw: CInt
  let slot: Int
  let generation: UInt32
  /// Whose time its handler takes; nil for the loop's own.
  let share: LoopShare?
  private var handler: ((ReadyEvents) -> Void)?
  /// Reported and not delivered yet.
  private var pending: ReadyEvents = []
  private unowned let loop: EventLoop

  init(
    raw: CInt, slot: Int, generation: UInt32, loop: EventLoop, share: LoopShare?,
    handler: @escaping (ReadyEvents) -> Void
  ) {
    self.raw = raw
    self.slot = slot
    self.generation = generation
    self.loop = loop
    self.share = share
    self.handler = handler
  }

  /// Takes what the kernel has reported. False where earlier events wait for delivery, so that these go with them.
  func note(_ events: ReadyEvents) -> Bool {
    let isFirst = pending.isEmpty
    pending.formUnion(events)
    return isFirst
  }

  /// Tells the owner of the events noted, unless it has cancelled since.
  func deliver() {
    let events = pending
    pending = []
    handler?(events)
  }

  /// No more events, not even ones the kernel has reported already. Call it before closing the descriptor.
  public func cancel() { end(isClosing: false) }

  /// The same for a descriptor without duplicates that is closed next: the kernel then forgets the watch by itself,
  /// which saves a call for each connection.
  public func cancelForClose() { end(isClosing: true) }

  private func end(isClosing: Bool) {
    guard handler != nil else { return }
    handler = nil
    loop.remove(self, isClosing: isClosing)
  }

  /// Changes the interest of a level-triggered watch. Throws ``SystemError``.
  public func change(to events: ReadyEvents) throws(SystemError) {
    guard handler != nil else { return }
    try loop.modify(self, events)
  }
}
