import CLinux
import Glibc

/// Something that happened to an entry of a watched directory, or to the directory itself.
public struct DirectoryEvent: Hashable, Sendable {
  public enum Kind: Hashable, Sendable {
    /// An entry was made here: a file that may still be empty, a link or a directory.
    case created
    /// A file's content changed, and its writer may not be done.
    case modified
    /// A file that was open for writing was closed.
    case written
    /// An entry came by rename, perhaps over another one.
    case movedIn
    /// An entry went away, by removal or rename.
    case removed
    /// An entry's permissions, owner, times or link count changed.
    case attributes
    /// The directory itself is gone, moved or unmounted: nothing more will be reported.
    case directoryGone
    /// The kernel's queue was full: any number of events is missing.
    case overflow
  }

  public let kind: Kind
  /// The entry, empty for events of the directory itself. Bytes that are no UTF-8 are replaced.
  public let name: String

  public init(_ kind: Kind, name: String = "") {
    self.kind = kind
    self.name = name
  }
}

/// Watches the entries of one directory, not of those below it (inotify(7)).
///
/// It belongs to a loop's thread. Events are hints to look again: what they tell of may have changed since.
public final class DirectoryWatcher {
  public let path: String
  private let inotify: SharedDescriptor
  private let handler: ([DirectoryEvent]) -> Void
  private var watch: Watch?

  /// Room for the events of one read: at least one with the longest name, which the kernel insists on.
  private static let bufferSize = 16 << 10
  /// Reads in one round of the loop: a directory that changes without end must not keep the loop from other work.
  private static let readsPerRound = 4

  /// Starts to watch. `handler` is called on the loop with the events of one read, in order.
  ///
  /// Throws ``SystemError``: `ENOENT` or `ENOTDIR` for the path, `EMFILE` or `ENOSPC` when the user has no inotify
  /// instance or watch left (`fs.inotify.max_user_instances`, `max_user_watches`).
  public init(
    _ path: String, on loop: EventLoop, _ handler: @escaping ([DirectoryEvent]) -> Void
  ) throws(SystemError) {
    self.path = path
    self.handler = handler
    let descriptor = Descriptor(
      owning: try system("inotify_init1") { inotify_init1(CInt(IN_CLOEXEC | IN_NONBLOCK)) })
    inotify = SharedDescriptor(descriptor)
    let raw = inotify.raw
    try system("inotify_add_watch", path) { inotify_add_watch(raw, path, Self.mask) }
    watch = try loop.watch(raw, for: .readable) { [weak self] _ in self?.read() }
  }

  deinit { watch?.cancel() }

  /// No more events. Safe to call twice, and from the handler.
  public func cancel() {
    watch?.cancel()
    watch = nil
  }

  private static let mask = UInt32(
    IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE | IN_ATTRIB | IN_DELETE_SELF
      | IN_MOVE_SELF | IN_ONLYDIR)

  private func read() {
    withUnsafeTemporaryAllocation(
      byteCount: Self.bufferSize, alignment: MemoryLayout<inotify_event>.alignment
    ) { buffer in
      for _ in 0..<Self.readsPerRound where watch != nil {
        let count = Glibc.read(inotify.raw, buffer.baseAddress, buffer.count)
        guard count > 0 else { return }
        let events = Self.parse(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
        if !events.isEmpty { handler(events) }
      }
    }
  }

  /// The events of one read; anything that does not add up ends it.
  static func parse(_ bytes: UnsafeRawBufferPointer) -> [DirectoryEvent] {
    let headerSize = MemoryLayout<inotify_event>.size
    var events: [DirectoryEvent] = []
    var offset = 0
    while offset + headerSize <= bytes.count {
      let header = bytes.loadUnaligned(fromByteOffset: offset, as: inotify_event.self)
      let nameStart = offset + headerSize
      let end = nameStart + Int(header.len)
      guard end <= bytes.count else { break }
      // Padded with zero bytes.
      let name = String(decoding: bytes[nameStart..<end].prefix { $0 != 0 }, as: UTF8.self)
      if let kind = kind(ofMask: header.mask, isEntry: header.len > 0) {
        events.append(DirectoryEvent(kind, name: name))
      }
      offset = end
    }
    return events
  }

  private static func kind(ofMask mask: UInt32, isEntry: Bool) -> DirectoryEvent.Kind? {
    func has(_ flags: CInt) -> Bool { mask & UInt32(bitPattern: flags) != 0 }
    if has(IN_Q_OVERFLOW) { return .overflow }
    if has(IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED) { return .directoryGone }
    if has(IN_MOVED_TO) { return .movedIn }
    if has(IN_CREATE) { return .created }
    if has(IN_CLOSE_WRITE) { return .written }
    if has(IN_MODIFY) { return .modified }
    if has(IN_DELETE | IN_MOVED_FROM) { return .removed }
    if has(IN_ATTRIB) { return isEntry ? .attributes : nil }
    return nil
  }
}
