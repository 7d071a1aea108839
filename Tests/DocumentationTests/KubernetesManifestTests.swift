import Foundation
import TestSupport
import Testing

@Suite("manifests/kubernetes")
struct KubernetesManifestTests {
  /// What a kustomization with these components says.
  private func text(components: [String]) throws -> String {
    let root = FileManager.default.temporaryDirectory.appendingPathComponent("ambient-kustomize-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: root, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: root) }
    // Kustomize takes nothing from outside of its root.
    try FileManager.default.copyItem(
      at: Repository.root.appendingPathComponent("manifests/kubernetes"), to: root.appendingPathComponent("base"))
    let list = components.map { "base/\($0)" }.joined(separator: ", ")
    try "resources: [base/both]\ncomponents: [\(list)]\n".write(
      to: root.appendingPathComponent("kustomization.yaml"), atomically: true, encoding: .utf8)
    return try Command.mustRun(["kubectl", "kustomize", root.path], timeout: .seconds(60))
  }

  @Test(
    "nobody may delete pods but with the component that has them deleted", .requires(.command("kubectl")),
    arguments: [
      ([], false, []), (["repair-label"], false, ["REPAIR_LABEL_PODS"]),
      (["repair-delete"], true, ["REPAIR_DELETE_PODS"]),
    ] as [([String], Bool, [String])])
  func repair(components: [String], mayDelete: Bool, settings: [String]) throws {
    let text = try text(components: components)
    #expect(text.contains("\n  - delete\n") == mayDelete)
    #expect(text.contains("  REPAIR_ENABLED: \"\(!settings.isEmpty)\"\n"))
    for setting in ["REPAIR_LABEL_PODS", "REPAIR_DELETE_PODS"] {
      #expect(text.contains("  \(setting): \"true\"\n") == settings.contains(setting))
    }
  }

  @Test("neither daemon is privileged, and ztunnel reads the agent's proofs and cannot write them")
  func leastRights() throws {
    for file in ["node-agent", "ztunnel"] {
      let text = try Repository.text("manifests/kubernetes/\(file)/daemonset.yaml")
      #expect(text.contains("privileged: false") && text.contains("readOnlyRootFilesystem: true"))
      #expect(text.contains("drop: [ALL]"))
    }
    let ztunnel = try Repository.text("manifests/kubernetes/ztunnel/daemonset.yaml")
    #expect(ztunnel.contains("{name: ambient, mountPath: /run/ambient, readOnly: true}"))
    #expect(!(try Repository.text("manifests/kubernetes/node-agent/rbac.yaml")).contains("delete"))
  }
}
