import Vocabulary
import Yams
import ZDS

/// Reads one file of workloads: YAML, with one workload a document or a list under `workloads:`.
///
/// The bytes may come from anyone who may write the directory, so size and depth are bounded before they are parsed.
public enum WorkloadFile {
  public static let maximumBytes = 1 << 20
  public static let maximumWorkloads = 4096

  private static let keys = ["uid", "name", "namespace", "serviceAccount", "netns", "pid", "mesh", "annotations"]

  /// Throws ``WorkloadFileError``. `file` is used in errors only.
  public static func parse(_ bytes: [UInt8], file: String) throws(WorkloadFileError) -> [DesiredWorkload] {
    func fail(_ line: Int?, _ reason: WorkloadFileError.Reason) -> WorkloadFileError {
      WorkloadFileError(file: file, line: line, reason: reason)
    }
    guard bytes.count <= maximumBytes else { throw fail(nil, .tooLarge(limit: maximumBytes)) }
    guard let text = String(validating: bytes, as: UTF8.self), !bytes.contains(0) else { throw fail(nil, .notText) }
    if let finding = YAMLScreen.finding(in: bytes) { throw fail(finding.line, finding.reason) }

    let documents: [Node]
    do {
      let parser = try Parser(yaml: text, resolver: .basic)
      var roots: [Node] = []
      while let root = try parser.nextRoot() {
        roots.append(root)
        if roots.count > maximumWorkloads { throw fail(nil, .tooManyWorkloads(limit: maximumWorkloads)) }
      }
      documents = roots
    } catch let error as WorkloadFileError { throw error } catch { throw syntaxError(error, file) }

    var workloads: [DesiredWorkload] = []
    for document in documents {
      guard let mapping = document.mapping else {
        // `---` followed by nothing.
        if let scalar = document.scalar, scalar.string.isEmpty { continue }
        throw fail(document.mark?.line, .wrongType(key: "document", expected: "a mapping"))
      }
      guard let list = mapping.first(where: { $0.key.scalar?.string == "workloads" }) else {
        workloads.append(try WorkloadNode(mapping, line: document.mark?.line ?? 1, file: file).workload(keys))
        continue
      }
      if let other = mapping.first(where: { $0.key.scalar?.string != "workloads" }) {
        let key = other.key.scalar?.string ?? "?"
        throw fail(other.key.mark?.line, .unknownKey(key, known: ["workloads"]))
      }
      guard let entries = list.value.sequence else {
        throw fail(list.key.mark?.line, .wrongType(key: "workloads", expected: "a list"))
      }
      for entry in entries {
        guard let workload = entry.mapping else {
          throw fail(entry.mark?.line, .wrongType(key: "workloads", expected: "a list of mappings"))
        }
        workloads.append(try WorkloadNode(workload, line: entry.mark?.line ?? 1, file: file).workload(keys))
      }
    }
    guard workloads.count <= maximumWorkloads else { throw fail(nil, .tooManyWorkloads(limit: maximumWorkloads)) }
    guard !documents.isEmpty else { throw fail(nil, .empty) }
    return workloads
  }

  private static func syntaxError(_ error: any Error, _ file: String) -> WorkloadFileError {
    switch error as? YamlError {
    case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
      .composer(_, let problem, let mark, _):
      WorkloadFileError(file: file, line: mark.line, reason: .syntax(problem))
    case .duplicatedKeysInMapping(let keys, let context):
      WorkloadFileError(
        file: file, line: context.mark.line, reason: .syntax("repeated keys \(keys.joined(separator: ", "))"))
    default: WorkloadFileError(file: file, line: nil, reason: .syntax("unreadable characters"))
    }
  }
}
