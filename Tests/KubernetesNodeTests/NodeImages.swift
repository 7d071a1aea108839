import Foundation
import TestSupport
import Testing

/// The daemons as container images, from the release build that lies beside the debug build under test.
enum NodeImages {
  static let names = ["node-agent", "ztunnel"]

  /// Where the release build's programs are; nil when one of them was not built.
  static let programs: String? = {
    guard let debug = BuiltProduct.path("node-agent") else { return nil }
    let directory = URL(fileURLWithPath: debug).resolvingSymlinksInPath().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "release").path
    let isComplete = (names + ["ambient-cni"]).allSatisfy {
      FileManager.default.isExecutableFile(atPath: "\(directory)/\($0)")
    }
    return isComplete ? directory : nil
  }()

  /// The top of the checkout.
  static var checkout: String {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().path
  }
}

extension Requirement {
  static var releaseBuild: Requirement {
    Requirement(NodeImages.programs != nil, otherwise: "needs a release build: scripts/kubernetes-test --images")
  }
}

extension KubernetesNode {
  /// Packs the release build as images, as `make image` does, and has the runtime know them.
  func importImages() throws {
    guard let programs = NodeImages.programs else { throw CommandError.notFound("a release build") }
    let output = directory + "/images"
    try Command.mustRun(
      ["env", "BIN=\(programs)", NodeImages.checkout + "/scripts/image", "--output", output] + NodeImages.names,
      timeout: .seconds(120))
    for name in NodeImages.names { try runtime(["images", "import", "\(output)/\(name).tar"], timeout: .seconds(60)) }
    try FileManager.default.removeItem(atPath: output)
  }

  /// The project's manifests in a namespace of their own, as `kubectl kustomize` prints them, with what this node has
  /// instead of a control plane: certificates from a local authority, and the mesh from a file.
  func daemonSets(in namespace: String) throws -> String {
    let overlay = directory + "/overlay"
    try FileManager.default.createDirectory(atPath: overlay, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: overlay) }
    for name in NodeImages.names {
      try FileManager.default.copyItem(
        atPath: "\(NodeImages.checkout)/manifests/kubernetes/\(name)", toPath: "\(overlay)/\(name)")
    }
    try patches(namespace).write(toFile: overlay + "/patches.yaml", atomically: true, encoding: .utf8)
    try """
    namespace: \(namespace)
    bases: [./node-agent, ./ztunnel]
    patchesStrategicMerge: [patches.yaml]
    """.write(toFile: overlay + "/kustomization.yaml", atomically: true, encoding: .utf8)
    return Self.withoutSurge(try kubectl(["kustomize", overlay]), try kubectl(["version", "--short"]))
  }

  /// DaemonSets surge since Kubernetes 1.22.
  static func withoutSurge(_ manifests: String, _ version: String) -> String {
    guard version.contains("Server Version: v1.20") else { return manifests }
    return manifests.replacing("maxSurge: 1", with: "maxUnavailable: 1").replacing(
      "\n      maxUnavailable: 0", with: "")
  }

  /// - The node is a network namespace, and process 1 is not in it: the agent shares the node's network instead of
  ///   looking for it there.
  /// - Paths are this node's, without symbolic links: what a link leads to need not be on a shared mount, as `/` is on
  ///   machines with systemd.
  private func patches(_ namespace: String) throws -> String {
    let configuration = try #require(environment["K8S_CNI_CONF"])
    let programs = try #require(environment["K8S_CNI_BIN"])
    return """
      apiVersion: apps/v1
      kind: DaemonSet
      metadata: {name: istio-cni-node, namespace: istio-system}
      spec:
        template:
          spec:
            hostNetwork: true
            containers:
            - name: install-cni
              env:
              - {name: ALLOW_SWITCH_TO_HOST_NS, value: "false"}
              - {name: CNI_AGENT_RUN_DIR, value: "\(directory)/run"}
              volumeMounts:
              - {name: run, mountPath: "\(directory)/run"}
            volumes:
            - {name: cni-bin, hostPath: {path: "\(programs)"}}
            - {name: cni-conf, hostPath: {path: "\(configuration)"}}
            - {name: netns, hostPath: {path: /run/netns}}
            - {name: run, hostPath: {path: "\(directory)/run"}}
            - {name: ztunnel, hostPath: {path: "\(directory)/socket"}}
            - {name: ambient, hostPath: {path: "\(directory)/ambient"}}
      ---
      apiVersion: apps/v1
      kind: DaemonSet
      metadata: {name: ztunnel, namespace: istio-system}
      spec:
        template:
          spec:
            containers:
            - name: istio-proxy
              env:
              - {name: CA_ADDRESS, value: ""}
              - {name: XDS_ADDRESS, value: ""}
              - {name: LOCAL_CA_PATH, value: /etc/mesh/ca}
              - {name: LOCAL_XDS_PATH, value: /etc/mesh/mesh.yaml}
              - {name: RUST_LOG, value: "info,access=debug"}
              volumeMounts:
              - {name: mesh, mountPath: /etc/mesh, readOnly: true}
            volumes:
            - {name: mesh, hostPath: {path: "\(directory)", type: Directory}}
            - {name: ztunnel, hostPath: {path: "\(directory)/socket"}}
            - {name: ambient, hostPath: {path: "\(directory)/ambient"}}
      """
  }
}
