import Vocabulary
import YAML
import ZDS

/// Reads one file of workloads: YAML, with one workload a document or a list under `workloads:`.
///
/// The bytes may come from anyone who may write the directory, so size and depth are bounded before they are parsed.
public enum WorkloadFile {
  public static let maximumBytes = 1 << 20
  public static let maximumWorkloads = 4096

  private static let keys = [
    "uid", "name", "namespace", "serviceAccount", "netns", "pid", "unit", "mesh", "annotations",
  ]

  /// Throws ``WorkloadFileError``. `file` is used in errors only.
  public static func parse(_ bytes: [UInt8], file: String) throws(WorkloadFileError) -> [DesiredWorkload] {
    func fail(_ line: Int?, _ reason: WorkloadFileError.Reason) -> WorkloadFileError {
      WorkloadFileError(file: file, line: line, reason: reason)
    }
    guard bytes.count <= maximumBytes else { throw fail(nil, .tooLarge(limit: maximumBytes)) }
    guard String(validating: bytes, as: UTF8.self) != nil, !bytes.contains(0) else { throw fail(nil, .notText) }

    let documents: [YAMLNode]
    do throws(YAMLError) {
      documents = try YAMLReader.documents(bytes, limit: maximumWorkloads)
    } catch { throw fail(error.mark.line, .init(error)) }

    var workloads: [DesiredWorkload] = []
    for document in documents {
      guard let mapping = document.mapping else {
        // `---` followed by nothing.
        if let scalar = document.scalar, scalar.isEmpty { continue }
        throw fail(document.mark.line, .wrongType(key: "document", expected: "a mapping"))
      }
      guard let list = mapping.first(where: { $0.key.scalar == "workloads" }) else {
        workloads.append(try WorkloadNode(mapping, line: document.mark.line, file: file).workload(keys))
        continue
      }
      if let other = mapping.first(where: { $0.key.scalar != "workloads" }) {
        let key = other.key.scalar ?? "?"
        throw fail(other.key.mark.line, .unknownKey(key, known: ["workloads"]))
      }
      guard let entries = list.value.sequence else {
        throw fail(list.key.mark.line, .wrongType(key: "workloads", expected: "a list"))
      }
      for entry in entries {
        guard let workload = entry.mapping else {
          throw fail(entry.mark.line, .wrongType(key: "workloads", expected: "a list of mappings"))
        }
        workloads.append(try WorkloadNode(workload, line: entry.mark.line, file: file).workload(keys))
      }
    }
    guard workloads.count <= maximumWorkloads else { throw fail(nil, .tooManyWorkloads(limit: maximumWorkloads)) }
    guard !documents.isEmpty else { throw fail(nil, .empty) }
    return workloads
  }
}

extension WorkloadFileError.Reason {
  fileprivate init(_ error: YAMLError) {
    self =
      switch error {
      case .anchor: .alias
      case .tooDeep: .tooDeep
      case .tooManyDocuments(_, let limit): .tooManyWorkloads(limit: limit)
      case .syntax, .repeatedKey: .syntax(error.reason)
      }
  }
}
