import Vocabulary
import YAML

extension MeshDocument {
  /// The parts of a `/config_dump` that describe the mesh, each the JSON text of a list: ours and those of Istio's
  /// ztunnel (observability.md §6). What is in them and not understood is left out.
  public struct DumpedParts: Sendable {
    public var workloads: [UInt8]
    public var services: [UInt8]
    public var policies: [UInt8]

    public init(workloads: [UInt8] = [], services: [UInt8] = [], policies: [UInt8] = []) {
      self.workloads = workloads
      self.services = services
      self.policies = policies
    }
  }

  /// Reads the parts of a dump; `source` names it in errors. Throws ``MeshFileError``.
  public static func parse(_ dump: DumpedParts, source: String) throws(MeshFileError) -> MeshDocument {
    var entries: [(key: YAMLNode, value: YAMLNode)] = []
    for (name, bytes) in [("workloads", dump.workloads), ("services", dump.services), ("policies", dump.policies)]
    where !bytes.isEmpty {
      guard bytes.count <= maximumSize else {
        throw .tooLarge(source: "\(source): \(name)", bytes: bytes.count, limit: maximumSize)
      }
      guard let node = try read(bytes, "\(source): \(name)") else { continue }
      entries.append((YAMLNode(.scalar(name, isPlain: false), mark: node.mark), node))
    }
    let root = YAMLNode(.mapping(entries), mark: YAMLMark(line: 1, column: 1))
    let problems = ProblemList(isDump: true)
    let document = MeshDocumentDecoder(problems).document(DocumentValue(root, .root, problems))
    guard problems.problems.isEmpty else {
      throw .invalid(source: source, problems: problems.problems, omitted: problems.omitted)
    }
    return document
  }
}
