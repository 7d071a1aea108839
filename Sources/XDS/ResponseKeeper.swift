/// Keeps what is known of the control plane's resources, for a restart. Used on the client's loop.
public protocol ResponseKeeper: AnyObject {
  /// Takes what is known from a portion of a response.
  func retain(_ portion: RetainedResponse)
  /// A response was taken to its end. It is acknowledged when this has returned and its changes are in force.
  func commit()
}
