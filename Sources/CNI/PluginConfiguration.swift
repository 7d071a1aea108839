import JSON

/// What the runtime writes to the plugin's standard input (enrollment.md §8.2).
public struct PluginConfiguration: Sendable {
  public static let defaultRunDirectory = "/var/run/istio-cni"
  /// Under this name the agent listens in the run directory.
  public static let socketName = "pluginevent.sock"
  /// More is read from nobody.
  public static let largestInput = 1 << 20

  public let version: CNIVersion
  /// Directory of the agent's socket.
  public let runDirectory: String
  public let excludedNamespaces: [String]
  /// The agent's own.
  public let agentNamespace: String?
  /// Seconds for the agent's answer to ADD and CHECK.
  public let timeout: Int
  /// The result of the plugins before this one, as its bytes were written; nil where there is none.
  public let previousResult: [UInt8]?

  public var socketPath: String { "\(runDirectory)/\(Self.socketName)" }

  /// Throws ``CNIError``: `.incompatibleVersion`, `.undecodable` or `.configuration`.
  public init(input: [UInt8]) throws(CNIError) {
    let members: [(key: String, value: ArraySlice<UInt8>)]
    let object: JSONObject
    do throws(JSONError) {
      members = try JSONValue.sourceOfMembers(input, limits: .init(bytes: Self.largestInput))
      object = try JSONValue.parse(input).object ?? JSONObject()
    } catch { throw .undecodable("the configuration on standard input is no JSON object: \(error)") }

    version = try Self.version(object)
    let name = object["name"]?.string ?? ""
    guard CNIEnvironment.isIdentifier(name) else {
      throw .configuration("the network's name is `\(name)`; it needs letters, digits, and `_.-` after the first")
    }
    runDirectory = try Self.text("cni_agent_run_dir", object) ?? Self.defaultRunDirectory
    agentNamespace = try Self.text("pod_namespace", object)
    excludedNamespaces = try Self.texts("exclude_namespaces", object)
    timeout = try Self.timeout(object)

    guard let previous = object["prevResult"], !previous.isNull else {
      previousResult = nil
      return
    }
    guard previous.object != nil else { throw .undecodable("prevResult is a \(previous.kind), not an object") }
    // The last one counts, as in the object.
    previousResult = members.last { $0.key == "prevResult" }.map { Array($0.value) }
  }

  /// The version named in any input that can be read at all; for answers to input that cannot be used.
  public static func versionForErrors(_ input: [UInt8]) -> CNIVersion {
    let value = try? JSONValue.parse(input, limits: .init(bytes: largestInput))
    return value?["cniVersion"]?.string.flatMap(CNIVersion.init(rawValue:)) ?? .newest
  }

  private static func version(_ object: JSONObject) throws(CNIError) -> CNIVersion {
    guard let text = try text("cniVersion", object) else { return .unnamed }
    guard let version = CNIVersion(rawValue: text) else { throw .incompatibleVersion(text) }
    return version
  }

  private static func text(_ key: String, _ object: JSONObject) throws(CNIError) -> String? {
    guard let value = object[key], !value.isNull else { return nil }
    guard let text = value.string else { throw .configuration("\(key) is a \(value.kind), not a string") }
    return text.isEmpty ? nil : text
  }

  private static func texts(_ key: String, _ object: JSONObject) throws(CNIError) -> [String] {
    guard let value = object[key], !value.isNull else { return [] }
    let texts = value.array?.compactMap(\.string)
    guard let texts, texts.count == value.array?.count else { throw .configuration("\(key) is no list of strings") }
    return texts
  }

  private static func timeout(_ object: JSONObject) throws(CNIError) -> Int {
    guard let value = object[PluginEntry.timeoutKey], !value.isNull else { return PluginEntry.defaultTimeout }
    guard let seconds = value.integer, 1...600 ~= seconds else {
      throw .configuration("\(PluginEntry.timeoutKey) is \(value.text), not a number of seconds from 1 to 600")
    }
    return seconds
  }
}
