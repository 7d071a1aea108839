import JSON

/// One file of a CNI configuration directory: a single plugin (`.conf`, `.json`) or a list of them (`.conflist`).
///
/// What other people wrote in it comes out as it went in: unknown keys, their order, the digits of numbers.
public struct NetworkConfiguration: Equatable, Sendable {
  public enum Form: Sendable {
    case single
    case list
  }

  /// Names a list that is made of a single plugin without a name (enrollment.md §9.2).
  static let fallbackName = "k8s-pod-network"
  /// The oldest version of the specification that knows lists.
  static let oldestListVersion = CNIVersion.v0_3_1

  public let form: Form
  public private(set) var json: JSONObject

  /// What kind of file a runtime takes a name for; nil for a file it does not look at.
  public static func form(ofFile name: String) -> Form? {
    if name.hasPrefix(".") { return nil }
    if name.hasSuffix(".conflist") { return .list }
    return name.hasSuffix(".conf") || name.hasSuffix(".json") ? .single : nil
  }

  /// The name of the list that takes a single plugin's place: `10-x.conf` becomes `10-x.conflist`.
  public static func listName(ofFile name: String) -> String {
    guard form(ofFile: name) == .single, let dot = name.lastIndex(of: ".") else { return name }
    return name[..<dot] + ".conflist"
  }

  /// Reads a file as a container runtime would: its name decides what it must hold. Throws
  /// ``NetworkConfigurationError``.
  public init(_ bytes: [UInt8], as form: Form) throws(NetworkConfigurationError) {
    let value: JSONValue
    do throws(JSONError) { value = try JSONValue.parse(bytes, limits: .init(bytes: 1 << 20)) } catch {
      throw NetworkConfigurationError(reason: "it is no JSON: \(error)")
    }
    guard let object = value.object else { throw NetworkConfigurationError(reason: "it holds no JSON object") }
    self.form = form
    json = object
    switch form {
    case .single:
      guard Self.hasType(object) else { throw NetworkConfigurationError(reason: "it names no `type` of plugin") }
    case .list:
      guard let name = object["name"]?.string, !name.isEmpty else {
        throw NetworkConfigurationError(reason: "the list has no `name`")
      }
      guard let plugins = object["plugins"]?.array else {
        throw NetworkConfigurationError(reason: "the list has no `plugins`")
      }
      guard !plugins.isEmpty else { throw NetworkConfigurationError(reason: "its list of plugins is empty") }
      guard plugins.allSatisfy({ $0.object.map(Self.hasType) == true }) else {
        throw NetworkConfigurationError(reason: "an entry of `plugins` names no `type`")
      }
    }
  }

  private init(list json: JSONObject) {
    form = .list
    self.json = json
  }

  private static func hasType(_ object: JSONObject) -> Bool { object["type"]?.string?.isEmpty == false }

  /// The plugins, in the order they run in.
  public var plugins: [JSONObject] {
    switch form {
    case .single: [json]
    case .list: json["plugins"]?.array?.compactMap(\.object) ?? []
    }
  }

  /// The plugins that are not ours.
  public var othersPlugins: [JSONObject] { plugins.filter { !Self.isOurs($0) } }

  public var hasOurEntry: Bool { plugins.contains(where: Self.isOurs) }

  /// The file as people read it.
  public var bytes: [UInt8] { JSONValue.object(json).indentedBytes }

  static func type(of plugin: JSONObject) -> String? { plugin["type"]?.string }

  private static func isOurs(_ plugin: JSONObject) -> Bool { type(of: plugin) == PluginEntry.type }

  /// Ours, and Istio's own, which ours replaces: both would ask the same agent.
  private static func isReplaced(_ plugin: JSONObject) -> Bool {
    isOurs(plugin) || type(of: plugin) == PluginEntry.istioType
  }

  // MARK: Editing

  /// The list with exactly one entry of ours, with this content.
  ///
  /// It keeps the place it has, so that two installers that both want to be last do not fight for ever; but it never
  /// stands before the plugin that makes the network.
  public func inserting(_ entry: JSONObject) -> NetworkConfiguration {
    var list = asList
    var plugins = list["plugins"]?.array ?? []
    let place = plugins.firstIndex { $0.object.map(Self.isReplaced) == true }
    plugins.removeAll { $0.object.map(Self.isReplaced) == true }
    if let place, 0 < place, place <= plugins.count {
      plugins.insert(.object(entry), at: place)
    } else {
      plugins.append(.object(entry))
    }
    list["plugins"] = .array(plugins)
    return NetworkConfiguration(list: list)
  }

  /// The list without our entry; nil when nothing is left.
  public func removingOurEntry() -> NetworkConfiguration? {
    guard form == .list else { return hasOurEntry ? nil : self }
    var list = json
    let rest = (json["plugins"]?.array ?? []).filter { $0.object.map(Self.isOurs) != true }
    guard !rest.isEmpty else { return nil }
    list["plugins"] = .array(rest)
    return NetworkConfiguration(list: list)
  }

  /// A single plugin as a list of one: the name and the version move up, so that the network keeps its name, under which
  /// address managers keep their books.
  private var asList: JSONObject {
    guard form == .single else { return json }
    var plugin = json
    let version = json["cniVersion"]?.string.flatMap(CNIVersion.init(rawValue:)) ?? .unnamed
    plugin["cniVersion"] = nil
    let name = json["name"]?.string ?? ""
    return JSONObject([
      .init(key: "name", value: .string(name.isEmpty ? Self.fallbackName : name)),
      .init(key: "cniVersion", value: .string(max(version, Self.oldestListVersion).rawValue)),
      .init(key: "plugins", value: .array([.object(plugin)])),
    ])
  }

  /// True when this list holds, besides our entry, nothing but what `single` held: then `single` can come back.
  public func isOnlyOurEntryOver(_ single: NetworkConfiguration) -> Bool {
    guard form == .list, single.form == .single, let rest = removingOurEntry() else { return false }
    return rest.json == single.asList
  }
}

/// Why a file is no network configuration.
public struct NetworkConfigurationError: Error, Equatable, CustomStringConvertible {
  public let reason: String

  public init(reason: String) { self.reason = reason }

  public var description: String { reason }
}
