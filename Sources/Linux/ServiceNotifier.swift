import CSystemd

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

  private static func notify(_ state: String) {
    _ = sd_notify(0, state)
  }
}
