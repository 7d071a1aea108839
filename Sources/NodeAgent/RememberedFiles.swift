import Glibc
import Linux

/// Copies of the workload files as they last made sense, on a file system that a reboot empties, as it ends all
/// network namespaces.
///
/// Without them, a restart would take a file that cannot be read for a file that is gone, and ztunnel would be told to
/// cut what it names. Losing them is only that: so failures here are not errors.
public struct RememberedFiles: Sendable {
  private let directory: String

  /// The directory, readable by root only, is made when something is stored.
  public init(directory: String) {
    self.directory = directory
  }

  func store(_ bytes: [UInt8], as name: String) {
    try? DurableFile.makeDirectory(directory, mode: 0o700)
    let path = "\(directory)/\(name)"
    let temporary = "\(directory)/.\(name).new"
    do {
      let file = try Descriptor.open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o600)
      try WholeFile.write(bytes, to: file.raw, temporary)
      try system("rename", path) { rename(temporary, path) }
    } catch {
      unlink(temporary)
    }
  }

  func load(_ name: String) -> [UInt8]? {
    let path = "\(directory)/\(name)"
    guard let file = try? Descriptor.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK) else { return nil }
    return try? WorkloadDirectory.contents(file.raw, path)
  }

  func names() -> [String] { (try? DurableFile.names(in: directory)) ?? [] }

  func keepOnly(_ names: [String]) {
    for gone in Set(self.names()).subtracting(names) { unlink("\(directory)/\(gone)") }
  }

  func remove(_ name: String) { unlink("\(directory)/\(name)") }
}
