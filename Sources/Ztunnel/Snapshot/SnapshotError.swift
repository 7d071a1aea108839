import Linux
import Vocabulary

/// Why what was kept from before a restart is not used, or cannot be kept.
enum SnapshotError: CodedError, Equatable {
  case keyUnreadable(path: String, reason: String)
  case keyTooShort(path: String, bytes: Int, least: Int)
  case directoryUnusable(path: String, reason: String)
  case unreadable(path: String, reason: String)
  /// Another version's, or no snapshot at all.
  case foreign(path: String)
  /// It was sealed with another key, or changed since.
  case sealBroken(path: String, record: UInt64)
  case malformed(path: String)
  case tooOld(path: String, seconds: Int64, limit: Int64)
  case tooLarge(path: String, bytes: Int, limit: Int)

  var code: String {
    switch self {
    case .keyUnreadable: "SNAPSHOT_KEY_UNREADABLE"
    case .keyTooShort: "SNAPSHOT_KEY_TOO_SHORT"
    case .directoryUnusable: "SNAPSHOT_DIRECTORY_UNUSABLE"
    case .unreadable: "SNAPSHOT_UNREADABLE"
    case .foreign: "SNAPSHOT_FOREIGN"
    case .sealBroken: "SNAPSHOT_SEAL_BROKEN"
    case .malformed: "SNAPSHOT_MALFORMED"
    case .tooOld: "SNAPSHOT_TOO_OLD"
    case .tooLarge: "SNAPSHOT_TOO_LARGE"
    }
  }

  var summary: String {
    switch self {
    case .keyUnreadable(let path, let reason): "the key of snapshots, \(path), cannot be read: \(reason)"
    case .keyTooShort(let path, let bytes, let least):
      "the key of snapshots, \(path), has \(bytes) bytes, fewer than \(least)"
    case .directoryUnusable(let path, let reason): "snapshots cannot be kept in \(path): \(reason)"
    case .unreadable(let path, let reason): "\(path) cannot be read: \(reason)"
    case .foreign(let path): "\(path) is no snapshot of this version"
    case .sealBroken(let path, let record): "\(path) was not sealed with this key, or was changed, at record \(record)"
    case .malformed(let path): "\(path) holds something else than what is kept there"
    case .tooOld(let path, let seconds, let limit):
      "\(path) was confirmed \(seconds) s ago, and \(limit) s are the limit"
    case .tooLarge(let path, let bytes, let limit): "\(path) has \(bytes) bytes, more than \(limit)"
    }
  }

  var remedy: String? {
    switch self {
    case .keyUnreadable, .keyTooShort:
      "make one with: head -c 32 /dev/urandom > FILE; only the proxy may be able to read it"
    case .directoryUnusable: "check that the directory exists, can be written, and has room"
    case .unreadable, .foreign, .malformed: "it is replaced when the control plane has described the mesh"
    case .sealBroken: "if the key was not changed, somebody changed the file; it is replaced by a new one"
    case .tooOld: "AMBIENT_SNAPSHOT_MAX_AGE is the limit; without a snapshot the control plane must be up"
    case .tooLarge: "the mesh is too large to be kept; without a snapshot the control plane must be up at a restart"
    }
  }
}
