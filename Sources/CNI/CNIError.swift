import JSON
import Vocabulary

/// A failure the container runtime is told of, in the terms of the CNI specification ("Error").
public enum CNIError: CodedError, Equatable {
  /// The configuration wants a version of the specification that we do not speak.
  case incompatibleVersion(String)
  /// Parameters in the environment are missing or make no sense.
  case environment([String])
  /// Standard input could not be read, or held too much.
  case input(String)
  /// Standard input or the previous result is no valid document.
  case undecodable(String)
  /// The configuration is valid JSON that makes no sense.
  case configuration(String)
  /// The namespace given is the one the plugin runs in.
  case ownNamespace(String)
  /// Nobody answers for the node agent.
  case agentAway(socket: String, reason: String)
  /// The agent answered something else than yes.
  case agentRefused(pod: String, code: String, message: String)

  /// The number the specification gives this kind of failure; from 100 on they are the plugin's own.
  public var number: Int {
    switch self {
    case .incompatibleVersion: 1
    case .environment: 4
    case .input: 5
    case .undecodable: 6
    case .configuration: 7
    case .ownNamespace: 8
    case .agentAway: 11
    case .agentRefused: 100
    }
  }

  public var code: String {
    switch self {
    case .incompatibleVersion: "CNI_INCOMPATIBLE_VERSION"
    case .environment: "CNI_BAD_ENVIRONMENT"
    case .input: "CNI_INPUT_UNREADABLE"
    case .undecodable: "CNI_INPUT_UNDECODABLE"
    case .configuration: "CNI_BAD_CONFIGURATION"
    case .ownNamespace: "CNI_OWN_NAMESPACE"
    case .agentAway: "CNI_AGENT_AWAY"
    case .agentRefused(_, let code, _): code
    }
  }

  public var summary: String {
    switch self {
    case .incompatibleVersion(let version): "the configuration wants CNI \(version)"
    case .environment(let problems): problems.joined(separator: "; ")
    case .input(let reason): "standard input: \(reason)"
    case .undecodable(let reason), .configuration(let reason): reason
    case .ownNamespace(let path): "\(path) is the network namespace of the runtime itself"
    case .agentAway(let socket, let reason):
      "the mesh's node agent does not answer on \(socket) (\(reason)), so nobody knows whether this pod belongs to the mesh"
    case .agentRefused(let pod, _, let message):
      "\(pod) may belong to the mesh and must not start outside of it: \(message)"
    }
  }

  public var remedy: String? {
    switch self {
    case .incompatibleVersion:
      "supported: \(CNIVersion.allCases.map(\.rawValue).joined(separator: ", "))"
    case .agentAway:
      "look at the node agent's pod on this node; pods of excluded namespaces start without it, all others are tried again"
    default: nil
    }
  }

  /// What is written to standard output, in the form of `version`.
  public func output(_ version: CNIVersion) -> JSONValue {
    [
      "cniVersion": .string(version.rawValue), "code": .integer(number), "msg": .string("\(code): \(summary)"),
      "details": .string(remedy ?? ""),
    ]
  }
}
