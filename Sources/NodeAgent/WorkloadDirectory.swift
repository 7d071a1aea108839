import Glibc
import Linux
import Vocabulary
import ZDS

/// A directory of workload files, as last seen: what is wanted, and what is wrong with it.
///
/// A file that cannot be read or understood changes nothing that runs: its last good content stays in force until it
/// is corrected or removed, also across a restart (``RememberedFiles``). What a file named that was removed while the
/// agent was away is still listed, as out of the mesh, so that its rules are removed.
///
/// A value: ``scan(now:)`` blocks on the file system and belongs on a thread that may.
public struct WorkloadDirectory: Sendable {
  public static let maximumFiles = 4096
  /// A file that changed less than this ago may still be half written, so it is looked at again later.
  public static let settling: Duration = .milliseconds(200)

  /// What tells one version of a file from the next.
  private struct Version: Equatable {
    let device: UInt64
    let inode: UInt64
    let size: Int64
    let modified: Int64
    let changed: Int64
  }

  private struct File {
    var version: Version
    var workloads: [DesiredWorkload]
    var error: WorkloadFileError?
  }

  /// What one scan found.
  public struct Report: Equatable, Sendable {
    /// Problems that were not there before, to be logged once.
    public var newProblems: [WorkloadFileError] = []
    /// Files whose problem is gone.
    public var corrected: [String] = []
    /// A file is still being written: scan again after ``WorkloadDirectory/settling``.
    public var unsettled = false
  }

  public let path: String
  private let remembered: RememberedFiles?
  private var removedWhileAway: [DesiredWorkload]?
  private var files: [String: File] = [:]
  private var problems: Set<String> = []
  /// The directory has been read completely at least once, so that ``workloads`` is all there is.
  public private(set) var isComplete = false
  /// All that is wanted, sorted by uid, each uid once.
  public private(set) var workloads: [DesiredWorkload] = []

  /// Without `remembered`, a restart forgets what the files said before.
  public init(path: String, remembered: RememberedFiles? = nil) {
    self.path = path
    self.remembered = remembered
  }

  /// Reads what changed. `now` is nanoseconds since 1970, the clock of file times.
  public mutating func scan(now: Int64) -> Report {
    var report = Report()
    var found: [WorkloadFileError] = []
    do throws(WorkloadFileError) {
      let names = try list()
      if removedWhileAway == nil {
        removedWhileAway = Set(remembered?.names() ?? []).subtracting(names).flatMap { recall($0) ?? [] }
      }
      for gone in Set(files.keys).subtracting(names) { files[gone] = nil }
      remembered?.keepOnly(names)
      for name in names { read(name, now, &report) }
      found = files.values.compactMap(\.error)
      if !report.unsettled { isComplete = true }
    } catch { found = [error] }
    found += merge()
    let texts = Set(found.map(\.description))
    report.newProblems = found.filter { !problems.contains($0.description) }
      .sorted { ($0.file, $0.line ?? 0) < ($1.file, $1.line ?? 0) }
    report.corrected = Set(problems).subtracting(texts).sorted()
    problems = texts
    return report
  }

  // MARK: Files

  private func list() throws(WorkloadFileError) -> [String] {
    guard let directory = opendir(path) else {
      throw WorkloadFileError(file: path, line: nil, reason: .unreadable(SystemError("opendir", errno).reason))
    }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      // Editors and ConfigMaps keep their scratch files behind a dot.
      guard !name.hasPrefix("."), name.hasSuffix(".yaml") || name.hasSuffix(".yml") else { continue }
      names.append(name)
    }
    guard names.count <= Self.maximumFiles else {
      throw WorkloadFileError(file: path, line: nil, reason: .unreadable("more than \(Self.maximumFiles) files"))
    }
    return names.sorted()
  }

  private mutating func read(_ name: String, _ now: Int64, _ report: inout Report) {
    let path = "\(self.path)/\(name)"
    do throws(SystemError) {
      let descriptor = try Descriptor.open(path, O_RDONLY | O_NONBLOCK)
      let raw = descriptor.raw
      let version = try Self.version(raw, path)
      if let known = files[name], known.version == version { return }
      if now - max(version.modified, version.changed) < Self.settling.components.attoseconds / 1_000_000_000 {
        report.unsettled = true
        return
      }
      let bytes = try Self.contents(raw, path)
      // Written to while it was read: neither version is known to be whole.
      guard try Self.version(raw, path) == version else {
        report.unsettled = true
        return
      }
      do {
        files[name] = File(version: version, workloads: try WorkloadFile.parse(bytes, file: path), error: nil)
        remembered?.store(bytes, as: name)
      } catch {
        files[name] = File(version: version, workloads: lastGood(name), error: error)
      }
    } catch {
      // Removed after it was listed: the next scan, which the removal itself announces, does not list it.
      if error.number == ENOENT, files[name] == nil { return }
      let problem = WorkloadFileError(file: path, line: nil, reason: .unreadable(error.reason))
      let never = Version(device: 0, inode: 0, size: -1, modified: 0, changed: 0)
      files[name] = File(version: never, workloads: lastGood(name), error: problem)
    }
  }

  private func lastGood(_ name: String) -> [DesiredWorkload] {
    files[name]?.workloads ?? recall(name) ?? []
  }

  /// What the file said to an earlier run.
  private func recall(_ name: String) -> [DesiredWorkload]? {
    guard let bytes = remembered?.load(name) else { return nil }
    return try? WorkloadFile.parse(bytes, file: name)
  }

  private static func version(_ raw: CInt, _ path: String) throws(SystemError) -> Version {
    var status = stat()
    try system("fstat", path) { fstat(raw, &status) }
    // A pipe or a device would block or never end.
    guard status.st_mode & S_IFMT == S_IFREG else { throw SystemError("open", EINVAL, subject: path) }
    func nanoseconds(_ time: timespec) -> Int64 { Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec) }
    return Version(
      device: UInt64(status.st_dev), inode: UInt64(status.st_ino), size: Int64(status.st_size),
      modified: nanoseconds(status.st_mtim), changed: nanoseconds(status.st_ctim))
  }

  /// A file that is too large is cut, one chunk past what a file may have, so that the parser can tell.
  static func contents(_ raw: CInt, _ path: String) throws(SystemError) -> [UInt8] {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 64 << 10)
    while bytes.count <= WorkloadFile.maximumBytes {
      let count = try system("read", path) { Glibc.read(raw, &chunk, chunk.count) }
      if count == 0 { break }
      bytes += chunk.prefix(count)
    }
    return bytes
  }

  // MARK: All files together

  private mutating func merge() -> [WorkloadFileError] {
    var owners: [WorkloadUID: String] = [:]
    var merged: [WorkloadUID: DesiredWorkload] = [:]
    var repeated: [WorkloadFileError] = []
    for (name, file) in files.sorted(by: { $0.key < $1.key }) {
      for workload in file.workloads {
        if let owner = owners[workload.uid] {
          repeated.append(
            WorkloadFileError(
              file: "\(path)/\(name)", line: nil, reason: .repeatedUID(workload.uid.text, otherFile: owner)))
          continue
        }
        owners[workload.uid] = "\(path)/\(name)"
        merged[workload.uid] = workload
      }
    }
    let locations = Set(merged.values.map(\.location))
    for gone in removedWhileAway ?? [] where merged[gone.uid] == nil && !locations.contains(gone.location) {
      // A process id may be another process by now, in a namespace that is none of ours.
      if case .path = gone.location { merged[gone.uid] = gone.outside }
    }
    workloads = merged.values.sorted { $0.uid < $1.uid }
    return repeated
  }
}
