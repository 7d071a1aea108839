/// The parameters of a plugin call that come in environment variables.
public struct CNIEnvironment: Equatable, Sendable {
  public enum Command: String, Sendable {
    case add = "ADD"
    case check = "CHECK"
    case delete = "DEL"
    case version = "VERSION"
    case collectGarbage = "GC"
    case status = "STATUS"
  }

  public let command: Command
  public let containerID: String
  /// Nil where the runtime deletes a container whose namespace is gone.
  public let networkNamespace: String?
  public let interface: String
  public let arguments: CNIArguments

  /// Throws ``CNIError/environment(_:)`` with everything that is wrong at once.
  public init(_ variables: [String: String]) throws(CNIError) {
    func value(_ name: String) -> String? { variables[name].flatMap { $0.isEmpty ? nil : $0 } }
    guard let word = value("CNI_COMMAND") else {
      throw .environment(["CNI_COMMAND is missing: this program is run by container runtimes"])
    }
    guard let command = Command(rawValue: word) else {
      throw .environment(["CNI_COMMAND is `\(word)`, which is unknown"])
    }
    self.command = command
    networkNamespace = value("CNI_NETNS")
    containerID = value("CNI_CONTAINERID") ?? ""
    interface = value("CNI_IFNAME") ?? ""
    // What belongs to no container has none of the others.
    guard [.add, .check, .delete].contains(command) else {
      arguments = try CNIArguments("")
      return
    }
    var problems: [String] = []
    for name in ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"] where value(name) == nil {
      problems.append("\(name) is missing")
    }
    if command != .delete, networkNamespace == nil { problems.append("CNI_NETNS is missing") }
    if !containerID.isEmpty, !Self.isIdentifier(containerID) {
      problems.append("CNI_CONTAINERID `\(containerID)` has characters that no container id has")
    }
    if !interface.isEmpty, !Self.isInterfaceName(interface) {
      problems.append("CNI_IFNAME `\(interface)` is no name of an interface")
    }
    guard problems.isEmpty else { throw .environment(problems) }
    arguments = try CNIArguments(variables["CNI_ARGS"] ?? "")
  }

  /// What the specification allows as a network's name or a container's id.
  static func isIdentifier(_ text: String) -> Bool {
    func isAlphanumeric(_ byte: UInt8) -> Bool {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"):
        true
      default: false
      }
    }
    guard let first = text.utf8.first, isAlphanumeric(first) else { return false }
    return text.utf8.allSatisfy { isAlphanumeric($0) || "_.-".utf8.contains($0) }
  }

  private static func isInterfaceName(_ text: String) -> Bool {
    text.utf8.count <= 15 && text != "." && text != ".."
      && text.utf8.allSatisfy { $0 > 0x20 && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") }
  }
}
