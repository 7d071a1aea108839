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

  /// A port to try, or 0 when it is to be left to the kernel, which finds a free one if there is any. `attempt` counts from
  /// 0; the one before was taken.
  static func candidate(_ attempt: Int) -> UInt16 {
    attempt < ranges.count ? UInt16.random(in: ranges[attempt]) : 0
  }
}
