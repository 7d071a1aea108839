import Vocabulary
import YAML

/// Changes of policies that are not in force, to be tried on a copy of the mesh.
///
/// Read from files: `AuthorizationPolicy` resources as for Kubernetes, several documents or a `List`, or the `policies`
/// of a mesh file.
public struct ProposedPolicies: Sendable {
  private struct Proposal: Sendable {
    var policy: AuthorizationPolicy
    var labels: [String: String]
  }

  private var proposals: [Proposal] = []
  private var removals: [String] = []
  /// What a reader should know: what was left out, what was assumed.
  public private(set) var notes: [String] = []

  /// Most documents of one file.
  private static let mostDocuments = 1000

  public init() {}

  public var isEmpty: Bool { proposals.isEmpty && removals.isEmpty }

  /// Takes a policy away, by `namespace/name`.
  public mutating func remove(_ key: String) { removals.append(key) }

  /// Adds what the bytes of a file say, all of it or nothing; `source` names it in errors. Throws ``MeshFileError``.
  public mutating func add(_ bytes: [UInt8], source: String) throws(MeshFileError) {
    guard bytes.count <= MeshDocument.maximumSize else {
      throw .tooLarge(source: source, bytes: bytes.count, limit: MeshDocument.maximumSize)
    }
    guard String(validating: bytes, as: UTF8.self) != nil else { throw .notUTF8(source: source) }
    let nodes: [YAMLNode]
    do throws(YAMLError) { nodes = try YAMLReader.documents(bytes, limit: Self.mostDocuments) } catch {
      if case .anchor(let mark) = error { throw .anchors(source: source, line: mark.line) }
      throw .syntax(
        source: source,
        MeshFileProblem(
          line: error.mark.line, column: error.mark.column, path: "document", reason: error.reason))
    }
    let problems = ProblemList()
    let before = self
    for node in nodes { add(DocumentValue(node, .root, problems)) }
    if !problems.problems.isEmpty { self = before }
    guard problems.problems.isEmpty else {
      throw .invalid(source: source, problems: problems.problems, omitted: problems.omitted)
    }
  }

  private mutating func add(_ value: DocumentValue) {
    if value.isNull { return }
    guard AuthorizationPolicyResource.isResource(value) else {
      let document = MeshDocumentDecoder(value.problems).document(value)
      proposals += document.policies.map { Proposal(policy: $0, labels: [:]) }
      return
    }
    if value.node["kind"]?.scalar == "List" {
      for item in value.node["items"]?.sequence ?? [] { add(DocumentValue(item, value.path, value.problems)) }
      return
    }
    guard let resource = AuthorizationPolicyResource(value) else { return }
    notes += resource.notes
    if let policy = resource.policy { proposals.append(Proposal(policy: policy, labels: resource.labels)) }
  }

  // MARK: Trying

  /// A mesh with the changes made, and what had to be assumed about it.
  public func applied(to mesh: MeshSnapshot) -> (mesh: MeshSnapshot, notes: [String]) {
    var changes: [MeshChange] = []
    var notes = notes
    var lists: [String: [String]] = [:]
    func change(_ workload: Workload, _ edit: (inout [String]) -> Void) {
      edit(&lists[workload.uid, default: workload.authorizationPolicies])
    }
    for key in removals {
      if mesh.policy(key: key) == nil { notes.append("there is no policy \(key) to take away") }
      changes.append(.removePolicy(key: key))
      // Nobody goes on naming it, or it would deny as one that is not known.
      for workload in mesh.allWorkloads where workload.authorizationPolicies.contains(key) {
        change(workload) { $0.removeAll { $0 == key } }
      }
    }
    for proposal in proposals {
      let policy = proposal.policy
      changes.append(.upsertPolicy(policy))
      guard policy.scope == .workloadSelector else { continue }
      guard !proposal.labels.isEmpty else {
        // A mesh file says with each workload which policies it has.
        notes.append("\(policy.key) concerns the workloads that name it already")
        continue
      }
      let unseen = proposal.labels.keys.filter { !Self.isVisible($0) }.sorted()
      if !unseen.isEmpty {
        notes.append(
          "labels \(unseen.joined(separator: ", ")) are not in the mesh: \(policy.key) is assumed to match them")
      }
      let isEverywhere = policy.namespace == AuthorizationPolicyResource.rootNamespace
      for workload in mesh.allWorkloads where isEverywhere || workload.namespace == policy.namespace {
        let isSelected = proposal.labels.allSatisfy { label, value in
          Self.label(label, of: workload).map { $0 == value } ?? true
        }
        change(workload) { names in
          names.removeAll { $0 == policy.key }
          if isSelected { names.append(policy.key) }
        }
      }
    }
    for (uid, names) in lists {
      guard var record = mesh.workload(uid: uid)?.record, record.authorizationPolicies != names else { continue }
      record.authorizationPolicies = names
      changes.append(.upsertWorkload(record))
    }
    return (mesh.applying(changes).snapshot, notes)
  }

  private static let nameLabels = ["app", "app.kubernetes.io/name", "service.istio.io/canonical-name"]
  private static let versionLabels = ["version", "app.kubernetes.io/version", "service.istio.io/canonical-revision"]

  private static func isVisible(_ label: String) -> Bool { nameLabels.contains(label) || versionLabels.contains(label) }

  /// The mesh has no labels, but names that come from them.
  private static func label(_ label: String, of workload: Workload) -> String? {
    if nameLabels.contains(label), !workload.canonicalName.isEmpty { return workload.canonicalName }
    if versionLabels.contains(label), !workload.canonicalRevision.isEmpty { return workload.canonicalRevision }
    return nil
  }
}
