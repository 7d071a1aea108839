/// The port of a connection that ztunnel opens to an application with its client's address.
///
/// The client may have connections of its own to the same port of the application: in plaintext, which are redirected, so
/// that connection tracking of the pod knows them by just that address and port. A second flow with the same numbers is
/// taken for a part of the first, and neither works. Two kernels would seldom choose the same port, one kernel asked twice
/// at the same time often does. So ports are chosen where clients have none: outside of the range from which Linux takes
/// them unless told otherwise, 32768 to 60999.
enum PreservedPort {
  /// First where hardly anybody listens, for the port of a listener is not free.
  private static let ranges: [ClosedRange<UInt16>] = [61_000...65_535, 10_000...32_767, 10_000...32_767]

  /// Ports drawn for one socket, while somebody listens on those before.
  static let draws = 4

  /// Where to try, or nil when the port is to be left to the kernel, which finds a free one if there is any. `attempt` counts
  /// from 0; the connection could not be made from a port of the one before.
  static func range(_ attempt: Int) -> ClosedRange<UInt16>? {
    attempt < ranges.count ? ranges[attempt] : nil
  }
}
