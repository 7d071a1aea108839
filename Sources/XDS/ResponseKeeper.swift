/// Keeps what is known of the control plane's resources, for a restart. Used on the client's loop, which it does not block.
public protocol ResponseKeeper: AnyObject {
  /// Takes what is known from a portion of a response.
  func retain(_ portion: RetainedPortion)
  /// A response was taken to its end: what was retained of it belongs together.
  func commit()
  /// Returns when at most `count` of these calls wait for the disk. A response is acknowledged when none does and its
  /// changes are in force.
  func settle(leaving count: Int) async
}
