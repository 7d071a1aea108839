import CSystemd
import Glibc
import Synchronization

/// What this process tells its service manager (`sd_notify(3)`). Does nothing where there is none. From any thread.
public enum ServiceNotifier {
  /// Start-up is complete.
  public static func ready() { notify("READY=1") }

  /// Shutdown has begun.
  public static func stopping() { notify("STOPPING=1") }

  /// One line for `systemctl status`.
  public static func status(_ text: String) { notify("STATUS=\(text)") }

  /// The process still makes progress.
  public static func alive() { notify("WATCHDOG=1") }

  /// The time within which the service manager wants to hear ``alive()``; nil when it does not watch this process.
  public static var watchdogInterval: Duration? {
    var microseconds: UInt64 = 0
    guard sd_watchdog_enabled(0, &microseconds) > 0 else { return nil }
    return .microseconds(Int64(clamping: microseconds))
  }

  /// From now on another process is the service's main one (`MAINPID=`), and this one says nothing more: the service manager
  /// would not listen, as it has not listened to the other one until now. So that one's readiness is told here.
  public static func leaveService(to process: Int32) {
    notify("READY=1\nMAINPID=\(process)")
    isSilent = true
  }

  /// Whether nothing is said: another process is the service's main one.
  public static var isSilent: Bool {
    get { silence.load(ordering: .relaxed) }
    set { silence.store(newValue, ordering: .relaxed) }
  }

  private static let silence = Atomic(false)

  private static func notify(_ state: String) {
    guard !isSilent else { return }
    _ = sd_notify(0, state)
  }

  // MARK: Descriptors

  /// Descriptors the service manager keeps for this service at most: `FDSTORE`, which systemd sets since version 254, and
  /// a unit for an older one. Zero where nothing is kept.
  public static var storeLimit: Int {
    guard getenv("NOTIFY_SOCKET") != nil, let text = getenv("FDSTORE") else { return 0 }
    return Int(String(cString: text)) ?? 0
  }

  /// Longest name of a stored descriptor (`sd_pid_notify_with_fds(3)`).
  public static let longestName = 255

  /// Has the service manager keep copies of descriptors beyond the life of this process. The next one gets them, by this
  /// name, from ``InheritedDescriptors``. A descriptor that is kept already is not kept twice. False when the message
  /// could not be sent.
  public static func store(_ descriptors: [SharedDescriptor], name: String) -> Bool {
    guard !descriptors.isEmpty, !isSilent else { return true }
    // Without polling: an error on a socket, such as that of a refused datagram, is no reason to drop it.
    let state = "FDSTORE=1\nFDNAME=\(name)\nFDPOLL=0"
    let raws = descriptors.map(\.raw)
    return withExtendedLifetime(descriptors) {
      sd_pid_notify_with_fds(0, 0, state, raws, UInt32(raws.count)) > 0
    }
  }

  /// Has every descriptor of this name dropped.
  public static func removeStored(name: String) { notify("FDSTOREREMOVE=1\nFDNAME=\(name)") }

  /// Waits until the service manager has processed everything it was told, `limit` at most. Blocks. False when it did
  /// not, or is not there.
  public static func awaitProcessed(within limit: Duration) -> Bool {
    isSilent || sd_notify_barrier(0, UInt64(clamping: limit / .microseconds(1))) > 0
  }
}

extension UInt64 {
  fileprivate init(clamping value: Double) { self = value > 0 && value < 1e18 ? UInt64(value) : 0 }
}
