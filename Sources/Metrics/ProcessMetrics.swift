import Glibc

extension MetricRegistry {
  /// Descriptors, memory and processor time of this process, read when asked for.
  public func addProcessMetrics() {
    collect(
      MetricDescription(.gauge, "process_open_fds", "Number of open file descriptors", isStable: true)
    ) { samples in
      if let count = Self.openDescriptors() { samples.add([:], count) }
    }
    collect(
      MetricDescription(.gauge, "process_max_fds", "Maximum number of open file descriptors", isStable: true)
    ) { samples in
      var limit = rlimit()
      guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
      samples.add([:], Int64(clamping: limit.rlim_cur))
    }
    collect(
      MetricDescription(.gauge, "process_resident_memory_bytes", "Resident memory size", unit: "bytes")
    ) { samples in
      guard let pages = Self.residentPages() else { return }
      samples.add([:], pages * Int64(sysconf(CInt(_SC_PAGESIZE))))
    }
    collect(
      MetricDescription(.counter, "process_cpu_seconds", "User and system processor time", unit: "seconds")
    ) { samples in
      var usage = rusage()
      guard getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 else { return }
      samples.add([:], Self.seconds(usage.ru_utime) + Self.seconds(usage.ru_stime))
    }
  }

  private static func seconds(_ time: timeval) -> Double { Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }

  private static func openDescriptors() -> Int64? {
    guard let directory = opendir("/proc/self/fd") else { return nil }
    defer { closedir(directory) }
    var count: Int64 = 0
    while readdir(directory) != nil { count += 1 }
    // Without `.`, `..` and the directory's own descriptor.
    return max(0, count - 3)
  }

  /// The second number of `/proc/self/statm`.
  private static func residentPages() -> Int64? {
    guard let file = fopen("/proc/self/statm", "re") else { return nil }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 256)
    let count = fread(&bytes, 1, bytes.count, file)
    let words = String(decoding: bytes[..<count], as: UTF8.self).split(separator: " ")
    return words.count > 1 ? Int64(words[1]) : nil
  }
}
