import Linux

/// A way into a namespace, under the lock that keeps writers of its tables apart.
struct NamespaceVisit: Sendable {
  /// Nil: the namespace's own.
  let lockPath: String?
  let lockTimeout: Duration

  /// Runs `body` with the calling thread inside the namespace. Blocks. Throws ``RedirectionError``.
  func enter<Result>(
    _ namespace: NetworkNamespace, _ body: () throws(RedirectionError) -> Result
  ) throws(RedirectionError) -> Result {
    // Before entering: the wait must not keep a thread inside a pod.
    let lock =
      if let lockPath { try XtablesLock(path: lockPath, timeout: lockTimeout) } else {
        try XtablesLock(of: namespace, timeout: lockTimeout)
      }
    defer { withExtendedLifetime(lock) {} }
    return try Self.enterWithoutLock(namespace, body)
  }

  /// The same for what touches no table.
  static func enterWithoutLock<Result>(
    _ namespace: NetworkNamespace, _ body: () throws(RedirectionError) -> Result
  ) throws(RedirectionError) -> Result {
    var outcome: Swift.Result<Result, RedirectionError>?
    do {
      try namespace.enter {
        outcome = Swift.Result(catching: body)
      }
    } catch {
      throw .namespace(error as? NetworkNamespaceError ?? .notPermitted(subject: "\(namespace.identity)"))
    }
    guard let outcome else { throw .namespace(.notPermitted(subject: "\(namespace.identity)")) }
    return try outcome.get()
  }
}
