import JSON

/// One call of the plugin, as a value: what it was told, what it asks the agent, and what it answers the runtime.
///
/// A pod that may belong to the mesh starts only on the agent's word. Without the agent only what never is in the mesh
/// starts: the namespaces that are excluded, and the agent's own pod, on which all others wait (enrollment.md §8.3).
public struct PluginCall: Sendable {
  /// Exit status, standard output, and a line for standard error.
  public struct Output: Equatable, Sendable {
    public var status: Int32
    public var output: [UInt8]
    public var note: String?

    public init(status: Int32 = 0, output: [UInt8] = [], note: String? = nil) {
      self.status = status
      self.output = output
      self.note = note
    }
  }

  public enum Step: Sendable {
    case finish(Output)
    /// Ask the agent; then give what came of it to ``conclude(_:)``.
    case ask(Inquiry)
  }

  /// A question and how long to try.
  public struct Inquiry: Equatable, Sendable {
    public let subject: AgentQuestion.Subject
    public let question: AgentQuestion
    public let socketPath: String
    /// Seconds until an answer must be there.
    public let timeout: Int
    /// Seconds in which an agent that is not there may appear: it may be starting anew.
    public let patience: Int

    /// The question for an agent that has `left` to answer it.
    public func question(leaving left: Duration) -> AgentQuestion {
      var question = question
      question.timeout = max(0, Int(left / .milliseconds(1)))
      return question
    }
  }

  public enum Outcome: Sendable {
    case answered(AgentAnswer)
    /// There was no answer, and why.
    case unanswered(String)
  }

  /// Pods of the agent's DaemonSet in its namespace, which must start without an agent.
  public static let agentPodPrefix = "istio-cni-node-"

  private let environment: CNIEnvironment
  private let configuration: PluginConfiguration?
  private let version: CNIVersion

  /// Reads what the runtime says. Throws ``CNIError``.
  public init(variables: [String: String], input: [UInt8]) throws(CNIError) {
    environment = try CNIEnvironment(variables)
    version = PluginConfiguration.versionForErrors(input)
    switch environment.command {
    case .version: configuration = nil
    default: configuration = try PluginConfiguration(input: input)
    }
  }

  /// The answer to a call that failed. DEL never fails: a pod that cannot be deleted helps nobody.
  public static func failure(_ error: CNIError, variables: [String: String], input: [UInt8]) -> Output {
    if variables["CNI_COMMAND"] == CNIEnvironment.Command.delete.rawValue { return Output(note: "\(error)") }
    let version = PluginConfiguration.versionForErrors(input)
    return Output(status: 1, output: error.output(version).bytes, note: "\(error)")
  }

  /// What to do. `isOwnNamespace` tells whether a path is the namespace this program runs in. Throws ``CNIError``.
  public func begin(isOwnNamespace: (String) -> Bool) throws(CNIError) -> Step {
    guard let configuration else { return .finish(Output(output: Self.versions.bytes)) }
    switch environment.command {
    case .version, .collectGarbage, .status:
      // STATUS says nothing about the agent on purpose: a runtime whose network is not ready starts no pod at all, the
      // agent's own and those of excluded namespaces included, and the node would never recover.
      return .finish(Output())
    case .add, .check, .delete: break
    }
    if environment.command != .delete, let path = environment.networkNamespace, isOwnNamespace(path) {
      throw .ownNamespace(path)
    }
    guard let question = try question(configuration) else { return .finish(try passed(configuration)) }
    let subject: AgentQuestion.Subject =
      switch environment.command {
      case .check: .prove
      case .delete: .removed
      default: .admit
      }
    let isUrgent = environment.command == .delete
    return .ask(
      Inquiry(
        subject: subject, question: question, socketPath: configuration.socketPath,
        timeout: isUrgent ? 2 : configuration.timeout, patience: isUrgent ? 0 : min(10, configuration.timeout)))
  }

  /// What the runtime is answered. Throws ``CNIError``.
  public func conclude(_ inquiry: Inquiry, _ outcome: Outcome) throws(CNIError) -> Output {
    guard let configuration else { return Output() }
    switch outcome {
    case .answered(.captured), .answered(.notInMesh): return try passed(configuration)
    case .answered(.refused(let code, let message)):
      if environment.command == .delete { return Output(note: "\(inquiry.question.pod): \(code): \(message)") }
      throw .agentRefused(pod: inquiry.question.pod, code: code, message: message)
    case .unanswered(let reason):
      let error = CNIError.agentAway(socket: inquiry.socketPath, reason: reason)
      if environment.command == .delete { return Output(note: "\(inquiry.question.pod): \(error.code): \(reason)") }
      throw error
    }
  }

  /// Nil for what needs no agent: it is no pod, or one that never is in the mesh.
  private func question(_ configuration: PluginConfiguration) throws(CNIError) -> AgentQuestion? {
    guard let name = environment.arguments.podName, let namespace = environment.arguments.podNamespace else {
      return nil
    }
    if configuration.excludedNamespaces.contains(namespace) { return nil }
    if namespace == configuration.agentNamespace, name.hasPrefix(Self.agentPodPrefix) { return nil }
    return AgentQuestion(
      podNamespace: namespace, podName: name, podUID: environment.arguments.podUID,
      containerID: environment.containerID, networkNamespace: environment.networkNamespace,
      addresses: try configuration.previousResult.map(PluginResult.addresses) ?? [],
      timeout: configuration.timeout * 1000)
  }

  /// ADD hands on what the plugins before it gave; the others say nothing.
  private func passed(_ configuration: PluginConfiguration) throws(CNIError) -> Output {
    guard environment.command == .add else { return Output() }
    return Output(output: try PluginResult.output(configuration.previousResult, in: configuration.version))
  }

  private static var versions: JSONValue {
    [
      "cniVersion": .string(CNIVersion.newest.rawValue),
      "supportedVersions": .strings(CNIVersion.allCases.map(\.rawValue)),
    ]
  }
}
