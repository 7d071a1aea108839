import YAML
import ZDS

/// One workload of a file, still as YAML.
struct WorkloadNode {
  private let values: [String: YAMLNode]
  private let lines: [String: Int]
  private let line: Int
  private let file: String

  /// Throws ``WorkloadFileError`` for a key that is no text.
  init(_ mapping: [(key: YAMLNode, value: YAMLNode)], line: Int, file: String) throws(WorkloadFileError) {
    var values: [String: YAMLNode] = [:]
    var lines: [String: Int] = [:]
    for (key, value) in mapping {
      guard let name = key.scalar else {
        throw WorkloadFileError(file: file, line: key.mark.line, reason: .wrongType(key: "key", expected: "text"))
      }
      values[name] = value
      lines[name] = key.mark.line
    }
    self.values = values
    self.lines = lines
    self.line = line
    self.file = file
  }

  func workload(_ known: [String]) throws(WorkloadFileError) -> DesiredWorkload {
    if let unknown = lines.filter({ !known.contains($0.key) }).min(by: { $0.value < $1.value }) {
      throw WorkloadFileError(file: file, line: unknown.value, reason: .unknownKey(unknown.key, known: known))
    }
    let name = try identifier("name", maximum: 253)
    let namespace = try identifier("namespace", maximum: 63)
    let account = values["serviceAccount"] == nil ? "default" : try identifier("serviceAccount", maximum: 253)
    return DesiredWorkload(
      uid: try uid(default: "\(namespace)/\(name)"),
      info: WorkloadInfo(name: name, namespace: namespace, serviceAccount: account),
      location: try location(),
      inMesh: try mesh(),
      annotations: try annotations())
  }

  // MARK: Keys

  private func uid(default text: String) throws(WorkloadFileError) -> WorkloadUID {
    let value = try optionalText("uid") ?? text
    let printable = value.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
    guard printable, values["uid"] == nil || value.utf8.count <= 128, let uid = WorkloadUID(value) else {
      throw bad("uid", value, "1 to 128 printable characters without spaces")
    }
    return uid
  }

  private func location() throws(WorkloadFileError) -> NamespaceLocation {
    switch (try optionalText("netns"), try optionalText("pid")) {
    case (let path?, nil):
      guard path.hasPrefix("/"), path.utf8.count < 4096, !path.utf8.contains(0) else {
        throw bad("netns", path, "an absolute path such as /run/netns/web")
      }
      return .path(path)
    case (nil, let text?):
      guard let process = Int32(text), process > 0 else { throw bad("pid", text, "a process id") }
      return .process(process)
    case (nil, nil): throw error(line, .missingKey("netns"))
    case (_?, _?): throw error(lines["pid"], .bothLocations)
    }
  }

  private func mesh() throws(WorkloadFileError) -> Bool {
    switch try optionalText("mesh") {
    case nil, "true": return true
    case "false": return false
    case let other?: throw bad("mesh", other, "true or false")
    }
  }

  private func annotations() throws(WorkloadFileError) -> CaptureAnnotations {
    var annotations = CaptureAnnotations()
    guard let node = values["annotations"] else { return annotations }
    guard let mapping = node.mapping else {
      throw error(lines["annotations"], .wrongType(key: "annotations", expected: "a mapping"))
    }
    for (key, value) in mapping {
      guard let name = key.scalar, let text = value.scalar else {
        throw error(key.mark.line, .wrongType(key: "annotations", expected: "a mapping of text to text"))
      }
      do { try annotations.set(name, to: text) } catch {
        let reason: WorkloadFileError.Reason =
          switch error {
          case .unknown:
            .unknownKey(
              name,
              known: [
                CaptureAnnotations.bypassInboundCaptureKey, CaptureAnnotations.dnsCaptureKey,
                CaptureAnnotations.rerouteInterfacesKey,
              ])
          case .notABoolean(let value): .badValue(key: name, value: value, expected: "true or false")
          case .notAnInterface(let value): .badValue(key: name, value: value, expected: "names of interfaces")
          }
        throw self.error(key.mark.line, reason)
      }
    }
    return annotations
  }

  // MARK: Texts

  /// A name that fits a SPIFFE identity's path segment.
  private func identifier(_ key: String, maximum: Int) throws(WorkloadFileError) -> String {
    guard let text = try optionalText(key) else { throw error(line, .missingKey(key)) }
    let allowed = text.utf8.allSatisfy {
      (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0) || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0)
        || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || "-._".utf8.contains($0)
    }
    guard allowed, (1...maximum).contains(text.utf8.count), text != ".", text != ".." else {
      throw bad(key, text, "1 to \(maximum) letters, digits, `-`, `.` or `_`")
    }
    return text
  }

  private func optionalText(_ key: String) throws(WorkloadFileError) -> String? {
    guard let node = values[key] else { return nil }
    guard let scalar = node.scalar else { throw error(lines[key], .wrongType(key: key, expected: "a single value")) }
    return scalar
  }

  private func bad(_ key: String, _ value: String, _ expected: String) -> WorkloadFileError {
    error(lines[key], .badValue(key: key, value: String(value.prefix(80)), expected: expected))
  }

  private func error(_ line: Int?, _ reason: WorkloadFileError.Reason) -> WorkloadFileError {
    WorkloadFileError(file: file, line: line, reason: reason)
  }
}
