public import Logging

/// The least severe level that is still written; `off` writes nothing.
public enum LogThreshold: Int, Hashable, Sendable, CaseIterable, Comparable, CustomStringConvertible {
  case off, error, warn, info, debug, trace

  /// Parses a level word in any case. `warning` and `critical` are taken too, since `istioctl` sends them.
  public init?(_ text: some StringProtocol) {
    switch text.lowercased() {
    case "off": self = .off
    case "error", "critical": self = .error
    case "warn", "warning": self = .warn
    case "info": self = .info
    case "debug": self = .debug
    case "trace": self = .trace
    default: return nil
    }
  }

  /// The threshold at which a swift-log level is first written: the levels Istio has no word for join a neighbour.
  public init(writing level: Logger.Level) {
    switch level {
    case .critical, .error: self = .error
    case .warning: self = .warn
    case .notice, .info: self = .info
    case .debug: self = .debug
    case .trace: self = .trace
    }
  }

  /// The swift-log level that lets through what this threshold does. `off` has none and becomes `critical`.
  public var mostVerboseLevel: Logger.Level {
    switch self {
    case .off: .critical
    case .error: .error
    case .warn: .warning
    case .info: .info
    case .debug: .debug
    case .trace: .trace
    }
  }

  public static func < (left: LogThreshold, right: LogThreshold) -> Bool { left.rawValue < right.rawValue }

  /// The word used in filters and in the level column.
  public var description: String {
    switch self {
    case .off: "off"
    case .error: "error"
    case .warn: "warn"
    case .info: "info"
    case .debug: "debug"
    case .trace: "trace"
    }
  }
}
