import JSON

/// What the plugin asks the agent, as the body of an HTTP request over its unix socket.
///
/// The keys of Istio's plugin (enrollment.md §8.4) and a few of our own, so that Istio's plugin can ask our agent too
/// while it is being replaced. Its question, `/cmdadd`, means that the pod belongs to the mesh for certain.
public struct AgentQuestion: Equatable, Sendable {
  public enum Subject: String, Sendable {
    /// A pod starts: capture it if it belongs to the mesh.
    case admit = "/admit"
    /// Is a running pod as it should be?
    case prove = "/prove"
    /// A sandbox goes away.
    case removed = "/removed"
    /// As Istio's plugin asks: capture a pod of the mesh.
    case istioAdd = "/cmdadd"
  }

  public var podNamespace: String
  public var podName: String
  public var podUID: String?
  public var containerID: String?
  public var networkNamespace: String?
  public var addresses: [String]
  /// After how many milliseconds the plugin stops to wait.
  public var timeout: Int?

  public init(
    podNamespace: String, podName: String, podUID: String? = nil, containerID: String? = nil,
    networkNamespace: String? = nil, addresses: [String] = [], timeout: Int? = nil
  ) {
    self.podNamespace = podNamespace
    self.podName = podName
    self.podUID = podUID
    self.containerID = containerID
    self.networkNamespace = networkNamespace
    self.addresses = addresses
    self.timeout = timeout
  }

  /// `<namespace>/<name>`.
  public var pod: String { "\(podNamespace)/\(podName)" }

  public var body: [UInt8] {
    var object = JSONObject([
      .init(key: "Netns", value: .string(networkNamespace ?? "")),
      .init(key: "PodName", value: .string(podName)),
      .init(key: "PodNamespace", value: .string(podNamespace)),
      .init(key: "IPs", value: .array(addresses.map { ["Address": ["IP": .string($0)]] })),
    ])
    object["PodUID"] = podUID.map(JSONValue.string)
    object["ContainerID"] = containerID.map(JSONValue.string)
    object["TimeoutMilliseconds"] = timeout.map(JSONValue.integer)
    return JSONValue.object(object).bytes
  }

  /// Reads a body; keys count whatever their case, as for Istio's agent. Throws ``AgentQuestionError``.
  public init(body: [UInt8]) throws(AgentQuestionError) {
    let value: JSONValue
    do throws(JSONError) { value = try JSONValue.parse(body, limits: .init(bytes: 64 << 10)) } catch {
      throw AgentQuestionError(reason: "the body is no JSON: \(error)")
    }
    guard let object = value.object else { throw AgentQuestionError(reason: "the body is no JSON object") }
    podName = try Self.text("PodName", object, longest: 253) ?? ""
    podNamespace = try Self.text("PodNamespace", object, longest: 63) ?? ""
    guard !podName.isEmpty, !podNamespace.isEmpty else {
      throw AgentQuestionError(reason: "PodName and PodNamespace must be given")
    }
    podUID = try Self.text("PodUID", object, longest: 253)
    containerID = try Self.text("ContainerID", object, longest: 253)
    networkNamespace = try Self.text("Netns", object, longest: 4095)
    if let path = networkNamespace, !path.hasPrefix("/") || path.split(separator: "/").contains("..") {
      throw AgentQuestionError(reason: "Netns is `\(path)`, not the absolute path of a namespace")
    }
    addresses = try Self.addresses(object)
    timeout = Self.member("TimeoutMilliseconds", object)?.integer.map { min(max($0, 0), 600_000) }
  }

  private static func addresses(_ object: JSONObject) throws(AgentQuestionError) -> [String] {
    guard let value = member("IPs", object), !value.isNull else { return [] }
    guard let entries = value.array, entries.count <= 64 else {
      throw AgentQuestionError(reason: "IPs is no list of at most 64 addresses")
    }
    var addresses: [String] = []
    for entry in entries {
      let address = entry.object.flatMap { member("Address", $0)?.object }.flatMap { member("IP", $0)?.string }
      guard let address else { throw AgentQuestionError(reason: "IPs has an entry without Address.IP") }
      addresses.append(address)
    }
    return addresses
  }

  private static func text(
    _ key: String, _ object: JSONObject, longest: Int
  ) throws(AgentQuestionError) -> String? {
    guard let value = member(key, object), !value.isNull else { return nil }
    guard let text = value.string, text.utf8.count <= longest, !text.utf8.contains(0) else {
      throw AgentQuestionError(reason: "\(key) is no string of at most \(longest) bytes")
    }
    return text.isEmpty ? nil : text
  }

  private static func member(_ key: String, _ object: JSONObject) -> JSONValue? {
    object[key] ?? object.members.last { $0.key.lowercased() == key.lowercased() }?.value
  }
}

/// A request that makes no sense.
public struct AgentQuestionError: Error, Equatable, CustomStringConvertible {
  public let reason: String

  public init(reason: String) { self.reason = reason }

  public var description: String { reason }
}
