import Linux
import Redirection

/// What `node-agent rules` prints.
public struct RulesReport: Equatable, Sendable {
  /// What to look at.
  public enum Question: Sendable {
    /// What is in the namespace now.
    case current
    /// What enrolment would make of it.
    case planned(RedirectionSettings)
    /// How the two differ.
    case deviations(RedirectionSettings)
  }

  public let text: String
  /// False when the namespace deviates.
  public let isAsWanted: Bool

  init(text: String, isAsWanted: Bool = true) {
    self.text = text
    self.isAsWanted = isAsWanted
  }

  /// Throws `NetworkNamespaceError` or `RedirectionError`. Changes nothing.
  public static func answer(_ question: Question, in path: String) throws -> RulesReport {
    _ = NetworkNamespace.home
    let redirector = Redirector()
    switch question {
    case .current: return RulesReport(text: try redirector.current(in: NetworkNamespace(path: path)))
    case .planned(let settings):
      _ = try NetworkNamespace(path: path)
      return RulesReport(text: Redirector.listing(settings))
    case .deviations(let settings):
      let deviations = try redirector.check(settings, in: NetworkNamespace(path: path))
      guard !deviations.isEmpty else { return RulesReport(text: "as wanted\n") }
      return RulesReport(text: deviations.map { "\($0)\n" }.joined(), isAsWanted: false)
    }
  }
}
