import Vocabulary

/// What came of a lookup: at least one address, or why there is none.
typealias Resolution = Result<[IPAddress], ResolutionError>

/// Something that finds the addresses of host names. Called from any thread.
protocol HostnameResolver: Sendable {
  /// Looks `hostname` up without blocking the caller; calls `completion` once, from any thread, perhaps before it returns.
  func lookUp(_ hostname: String, _ completion: @escaping @Sendable (Resolution) -> Void)
}
