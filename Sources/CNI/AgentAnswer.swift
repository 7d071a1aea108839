import JSON

/// What the agent answers the plugin.
public enum AgentAnswer: Equatable, Sendable {
  /// The pod is captured, proven and known to ztunnel.
  case captured
  case notInMesh(reason: String)
  case refused(code: String, message: String)

  public var status: Int {
    switch self {
    case .captured, .notInMesh: 200
    case .refused: 500
    }
  }

  public var body: [UInt8] {
    let value: JSONValue =
      switch self {
      case .captured: ["captured": true]
      case .notInMesh(let reason): ["captured": false, "reason": .string(reason)]
      case .refused(let code, let message): ["code": .string(code), "message": .string(message)]
      }
    return value.bytes
  }

  /// Reads an answer. Whatever is not an unmistakable yes is a refusal.
  public init(status: Int, body: [UInt8]) {
    let value = try? JSONValue.parse(body, limits: .init(bytes: 64 << 10))
    if status == 200, let captured = value?["captured"]?.bool {
      self = captured ? .captured : .notInMesh(reason: value?["reason"]?.string ?? "")
      return
    }
    let text = String(decoding: body.prefix(2048), as: UTF8.self)
    self = .refused(
      code: value?["code"]?.string ?? "CNI_AGENT_REFUSED",
      message: value?["message"]?.string ?? "the node agent answered \(status) \(text)")
  }
}
