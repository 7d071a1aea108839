import Glibc

/// Tells when the file at a path may have become another one.
///
/// It watches the directory, so that a file replaced by rename, and links swapped as Kubernetes swaps those of a
/// ConfigMap, are noticed like one written in place; and it looks by itself every few seconds, in case events are lost
/// or come from where inotify sees nothing (a network file system, a link's far end). It belongs to a loop's thread.
public final class FileWatcher {
  public let path: String
  /// Why changes are noticed by the periodic look only; nil while the directory is watched.
  public private(set) var trouble: SystemError?

  private let directory: String
  private let fileName: String
  private let period: Duration
  private unowned let loop: EventLoop
  private let changed: () -> Void

  private var known: FileSignature?
  private var isOwnEventPending = false
  private var debounce = ChangeDebounce()
  private var watcher: DirectoryWatcher?
  private var pendingLook: LoopTimer?
  private var periodicLook: LoopTimer?

  /// `known` is the version the caller has read; `changed` is called on the loop when it is out of date, and for every
  /// event of the file's own name, since two quick writes can leave the same signature. It does nothing before
  /// ``start()``.
  public init(
    _ path: String, known: FileSignature?, period: Duration = .seconds(10), on loop: EventLoop,
    changed: @escaping () -> Void
  ) {
    self.path = path
    self.known = known
    self.period = period
    self.loop = loop
    self.changed = changed
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    fileName = String(parts.last ?? "")
    let parents = parts.dropLast().joined(separator: "/")
    directory = parents.isEmpty ? (path.hasPrefix("/") ? "/" : ".") : parents
  }

  deinit { cancel() }

  /// Starts to watch, and looks at once for what changed since `known` was read.
  public func start() {
    scheduleNextLook()
    // The watch comes first, so that nothing falls between the two.
    watchDirectory()
    look()
  }

  /// `changed` is not called any more. Safe to call twice, and from `changed`.
  public func cancel() {
    watcher?.cancel()
    pendingLook?.cancel()
    periodicLook?.cancel()
    (watcher, pendingLook, periodicLook) = (nil, nil, nil)
  }

  private func watchDirectory() {
    do throws(SystemError) {
      watcher = try DirectoryWatcher(directory, on: loop) { [weak self] in self?.received($0) }
      trouble = nil
    } catch {
      trouble = error
    }
  }

  private func received(_ events: [DirectoryEvent]) {
    for event in events {
      let hint = hint(of: event)
      if event.kind == .directoryGone {
        watcher?.cancel()
        watcher = nil
      }
      if event.name == fileName { isOwnEventPending = true }
      let deadline = debounce.note(hint, at: .now)
      pendingLook?.cancel()
      pendingLook = loop.schedule(at: deadline) { [weak self] in self?.settled() }
    }
  }

  private func hint(of event: DirectoryEvent) -> ChangeDebounce.Hint {
    guard event.name == fileName else { return .elsewhere }
    switch event.kind {
    case .created, .modified: return .beingWritten
    case .written, .movedIn, .removed: return .settled
    case .attributes, .directoryGone, .overflow: return .elsewhere
    }
  }

  private func settled() {
    pendingLook = nil
    debounce.reset()
    if watcher == nil { watchDirectory() }
    look()
  }

  /// True when there was something to tell.
  @discardableResult
  private func look() -> Bool {
    let now = FileSignature(path: path)
    guard now != known || isOwnEventPending else { return false }
    known = now
    isOwnEventPending = false
    changed()
    return true
  }

  private func scheduleNextLook() {
    periodicLook = loop.schedule(after: period) { [weak self] in
      guard let self else { return }
      scheduleNextLook()
      if watcher == nil { watchDirectory() }
      // A burst under way has its own deadline, and knows better whether the file is being written.
      guard pendingLook == nil, look(), periodicLook != nil else { return }
      // No event told of it: the directory's path may lead to another directory by now.
      watchDirectory()
    }
  }
}
