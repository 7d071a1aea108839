import Glibc
import Linux

/// A service of this machine's systemd, known by its control group. Its processes are looked up each time, because a
/// restarted service has others.
public struct SystemdUnit: Hashable, Sendable, CustomStringConvertible {
  /// Such as `web.service`, `web@1.service`, or `shop.slice/web.service` for one that is not in `system.slice`.
  public let name: String

  /// Nil unless `name` is that of a service, and a path that stays below the root of control groups.
  public init?(_ name: String) {
    let parts = name.split(separator: "/", omittingEmptySubsequences: false)
    guard name.utf8.count <= 512, name.hasSuffix(".service"), parts.allSatisfy(Self.isName),
      parts.dropLast().allSatisfy({ $0.hasSuffix(".slice") })
    else { return nil }
    self.name = name
  }

  public var description: String { name }

  /// Letters that systemd has in the names of units (`systemd.unit(5)`).
  private static func isName(_ part: Substring) -> Bool {
    !part.hasPrefix(".")
      && part.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"):
          true
        default: ":-_.\\@".utf8.contains(byte)
        }
      }
  }

  /// Where the unified hierarchy is, and systemd's own where controllers have hierarchies of version 1.
  private static let hierarchies = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"]

  /// The files that may list its processes.
  func processLists(hierarchies: [String] = SystemdUnit.hierarchies) -> [String] {
    hierarchies.map { "\($0)/\(group)/cgroup.procs" }
  }

  /// Where systemd puts it: instances of a template share a slice.
  private var group: String {
    if name.contains("/") { return name }
    guard let template = name.split(separator: "@").first, name.contains("@") else { return "system.slice/\(name)" }
    // A dash in the name of a slice would be a level of slices.
    let escaped = template.split(separator: "-", omittingEmptySubsequences: false).joined(separator: "\\x2d")
    return "system.slice/system-\(escaped).slice/\(name)"
  }

  /// Processes looked at to find a namespace: those of one service share it, but for helpers that run outside.
  private static let maximumProcesses = 64

  /// Its processes as they are now; none when it does not run.
  func processes() -> [Int32] {
    for list in processLists() {
      guard let bytes = try? SmallFile.read(list, limit: 1 << 16) else { continue }
      return String(decoding: bytes, as: UTF8.self).split(separator: "\n").prefix(Self.maximumProcesses)
        .compactMap { Int32($0) }.filter { $0 > 0 }
    }
    return []
  }
}
