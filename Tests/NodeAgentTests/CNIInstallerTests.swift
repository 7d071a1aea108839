import CNI
import Foundation
import Glibc
import JSON
import Linux
import Logging
import TestSupport
import Testing

@testable import NodeAgent

/// A node's directories, out of a temporary one.
final class NodeDirectories: Sendable {
  let root: String
  let token: @Sendable (String) throws -> Void

  static let list = #"{"cniVersion":"0.4.0","name":"podnet","plugins":[{"type":"bridge","mtu":1500.0}]}"#

  init() throws {
    let root = NSTemporaryDirectory() + "ambient-node-\(UUID().uuidString.prefix(8))"
    self.root = root
    for directory in ["net.d", "bin", "run", "account", "image"] {
      try FileManager.default.createDirectory(atPath: "\(root)/\(directory)", withIntermediateDirectories: true)
    }
    token = { try $0.write(toFile: "\(root)/account/token", atomically: true, encoding: .utf8) }
    try token("t1\n")
    try "PEM".write(toFile: "\(root)/account/ca.crt", atomically: true, encoding: .utf8)
    try "program 1".write(toFile: "\(root)/image/ambient-cni", atomically: true, encoding: .utf8)
  }

  deinit { try? FileManager.default.removeItem(atPath: root) }

  func environment(_ more: [String: String] = [:]) -> [String: String] {
    [
      "MOUNTED_CNI_NET_DIR": "\(root)/net.d", "MOUNTED_CNI_BIN_DIR": "\(root)/bin", "CNI_AGENT_RUN_DIR": "\(root)/run",
      "AMBIENT_CNI_PROGRAM": "\(root)/image/ambient-cni", "AMBIENT_SERVICE_ACCOUNT_DIRECTORY": "\(root)/account",
      "KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443", "POD_NAMESPACE": "istio-system",
      "EXCLUDE_NAMESPACES": "kube-system, other",
    ].merging(more) { $1 }
  }

  func settings(_ more: [String: String] = [:]) throws -> CNISettings {
    try CNISettings(environment: environment(more))
  }

  func read(_ path: String) -> String? { try? String(contentsOfFile: "\(root)/\(path)", encoding: .utf8) }

  func write(_ path: String, _ text: String) throws {
    try text.write(toFile: "\(root)/\(path)", atomically: true, encoding: .utf8)
  }

  func mode(_ path: String) -> mode_t? { DurableFile.mode(of: "\(root)/\(path)") }

  func names(_ directory: String) -> [String] {
    ((try? FileManager.default.contentsOfDirectory(atPath: "\(root)/\(directory)")) ?? []).sorted()
  }
}

@Suite("Installing the CNI plugin")
struct CNIInstallerTests {
  private let node: NodeDirectories

  init() throws { node = try NodeDirectories() }

  @Test("puts program, kubeconfig and entry in place, and then has nothing more to do")
  func install() throws {
    try node.write("net.d/10-a.conflist", NodeDirectories.list)
    chmod("\(node.root)/net.d/10-a.conflist", 0o644)
    let installer = CNIInstaller(settings: try node.settings())
    let report = installer.install()
    #expect(report.isInstalled)
    #expect(report.problems == [])
    #expect(report.changed.count == 3)
    #expect(node.read("bin/ambient-cni") == "program 1")
    #expect(node.mode("bin/ambient-cni") == 0o755)
    #expect(node.read("run/istio-cni-kubeconfig")?.contains(#""token": "t1""#) == true)
    #expect(node.mode("run/istio-cni-kubeconfig") == 0o600)
    let list = try JSONValue.parse(Array(try #require(node.read("net.d/10-a.conflist")).utf8))
    let entry = try #require(list["plugins"]?.array?.last)
    #expect(entry["type"] == "ambient-cni")
    #expect(entry["exclude_namespaces"] == ["kube-system", "other"])
    #expect(entry["pod_namespace"] == "istio-system")
    #expect(entry["cni_agent_run_dir"] == .string("\(node.root)/run"))
    #expect(list["plugins"]?.array?.first?["mtu"]?.text == "1500.0")
    #expect(node.mode("net.d/10-a.conflist") == 0o644)
    #expect(installer.install() == CNIInstaller.Report(primary: "10-a.conflist"))
  }

  @Test("the program is replaced when it differs, lost its mode or went away")
  func program() throws {
    try node.write("net.d/10-a.conflist", NodeDirectories.list)
    let installer = CNIInstaller(settings: try node.settings())
    _ = installer.install()
    let path = "\(node.root)/bin/ambient-cni"
    for damage in [
      { _ = chmod(path, 0o600) }, { _ = unlink(path) },
      { try? "other".write(toFile: path, atomically: false, encoding: .utf8) },
    ] {
      damage()
      #expect(installer.install().changed == [path])
      #expect(node.read("bin/ambient-cni") == "program 1")
      #expect(node.mode("bin/ambient-cni") == 0o755)
    }
  }

  @Test("a rotated token reaches the kubeconfig")
  func token() throws {
    try node.write("net.d/10-a.conflist", NodeDirectories.list)
    let installer = CNIInstaller(settings: try node.settings())
    _ = installer.install()
    try node.token("t2")
    #expect(installer.install().changed == ["\(node.root)/run/istio-cni-kubeconfig"])
    #expect(node.read("run/istio-cni-kubeconfig")?.contains(#""token": "t2""#) == true)
  }

  @Test("a token that cannot be used is told of, and the plugin is installed all the same")
  func badToken() throws {
    try node.write("net.d/10-a.conflist", NodeDirectories.list)
    for text in ["", "two words", "\n"] {
      try node.token(text)
      let report = CNIInstaller(settings: try node.settings()).install()
      #expect(report.isInstalled)
      #expect(report.problems.map(\.code) == ["CNI_CREDENTIALS_UNUSABLE"])
    }
    #expect(node.names("run") == [])
  }

  @Test("without its program the configuration is not touched: no pod could start any more")
  func noProgram() throws {
    try node.write("net.d/10-a.conflist", NodeDirectories.list)
    unlink("\(node.root)/image/ambient-cni")
    let report = CNIInstaller(settings: try node.settings()).install()
    #expect(!report.isInstalled)
    #expect(report.problems.map(\.code) == ["CNI_PROGRAM_MISSING"])
    #expect(node.read("net.d/10-a.conflist") == NodeDirectories.list)
  }

  @Test("a malformed file, a pipe and a directory are named and left alone")
  func malformed() throws {
    try node.write("net.d/05-bad.conflist", "{\"name\": \"x\",")
    mkfifo("\(node.root)/net.d/06-pipe.conf", 0o600)
    mkdir("\(node.root)/net.d/07-directory.conf", 0o700)
    try node.write("net.d/10-a.conflist", NodeDirectories.list)
    let report = CNIInstaller(settings: try node.settings()).install()
    #expect(report.isInstalled)
    #expect(report.problems.count == 3)
    for file in ["05-bad.conflist", "06-pipe.conf", "07-directory.conf"] {
      #expect(report.problems.contains { $0.summary.contains("net.d/\(file)") })
    }
    #expect(node.read("net.d/05-bad.conflist") == "{\"name\": \"x\",")
    #expect(report.primary == "10-a.conflist")
  }

  @Test("what a killed run left half written is removed")
  func leftovers() throws {
    try node.write("net.d/10-a.conflist", NodeDirectories.list)
    try node.write("net.d/10-a.conflist.ambient-tmp-77", "{")
    try node.write("bin/ambient-cni.ambient-tmp-1", "half")
    _ = CNIInstaller(settings: try node.settings()).install()
    #expect(node.names("net.d") == ["10-a.conflist"])
    #expect(node.names("bin") == ["ambient-cni"])
  }

  @Test("a directory that cannot be read is an error that says which")
  func noDirectory() throws {
    let report = CNIInstaller(settings: try node.settings(["MOUNTED_CNI_NET_DIR": "/nonexistent"])).install()
    #expect(!report.isInstalled)
    #expect(report.problems.contains { $0.code == "CNI_DIRECTORY_UNREADABLE" && $0.summary.contains("/nonexistent") })
  }

  @Test(
    "removal leaves the node as it was",
    arguments: [[:], ["ISTIO_OWNED_CNI_CONFIG": "true"], ["CHAINED_CNI_PLUGIN": "false"]],
    ["10-a.conflist", "10-a.conf"])
  func removal(mode: [String: String], file: String) throws {
    let content = file.hasSuffix("list") ? NodeDirectories.list : #"{"name":"podnet","type":"bridge","mtu":1500.0}"#
    try node.write("net.d/\(file)", content)
    let installer = CNIInstaller(settings: try node.settings(mode))
    #expect(installer.install().isInstalled)
    #expect(node.names("net.d").contains { node.read("net.d/\($0)")?.contains("ambient-cni") == true })
    let report = installer.remove()
    #expect(report.problems == [])
    #expect(node.names("net.d") == [file])
    let left = try JSONValue.parse(Array(try #require(node.read("net.d/\(file)")).utf8))
    #expect(left == (try JSONValue.parse(Array(content.utf8))))
    #expect(node.names("bin") == [])
    #expect(node.names("run") == [])
    #expect(installer.remove() == CNIInstaller.Report())
  }

  @Test(
    "the settings are Istio's",
    arguments: [
      (["ISTIO_OWNED_CNI_CONFIG": "true"], InstallationPlan.Mode.owned(file: "02-istio-cni.conflist")),
      (
        ["ISTIO_OWNED_CNI_CONFIG": "true", "ISTIO_OWNED_CNI_CONFIG_FILENAME": "a.conflist"], .owned(file: "a.conflist")
      ),
      (["ISTIO_OWNED_CNI_CONFIG": "true", "ISTIO_OWNED_CNI_CONF_FILENAME": "b.conflist"], .owned(file: "b.conflist")),
      (["CHAINED_CNI_PLUGIN": "false"], .standalone(file: "YYY-istio-cni.conf")),
      (["CHAINED_CNI_PLUGIN": "false", "CNI_CONF_NAME": "istio-cni.conf"], .standalone(file: "istio-cni.conf")),
      (["CNI_CONF_NAME": "10-x.conflist"], .chained(file: "10-x.conflist")), ([:], .chained(file: nil)),
    ])
  func mode(environment: [String: String], mode: InstallationPlan.Mode) throws {
    #expect(try CNISettings(environment: environment).mode == mode)
  }

  @Test(
    "settings that cannot be are refused by name",
    arguments: [
      ("CNI_CONF_NAME", "../x.conf"), ("CNI_CONF_NAME", "x.txt"), ("CHAINED_CNI_PLUGIN", "perhaps"),
      ("MOUNTED_CNI_NET_DIR", "relative"), ("KUBECONFIG_MODE", "0999"), ("CNI_CONF_GROUP_READ", "x"),
    ])
  func refused(name: String, value: String) {
    do throws(ConfigurationError) {
      _ = try CNISettings(environment: [
        name: value, "KUBERNETES_SERVICE_HOST": "h", "KUBERNETES_SERVICE_PORT": "1",
      ])
      Issue.record("\(name)=\(value) was taken")
    } catch { #expect(error.setting == name) }
  }

  @Test(
    "the plugin stays for the next agent, and goes with the last",
    arguments: [
      (false, DepartureDecision.DaemonSet.present(isOurs: true, isBeingDeleted: false, matchesNode: true), true),
      (true, .present(isOurs: true, isBeingDeleted: false, matchesNode: true), false),
      (false, .present(isOurs: true, isBeingDeleted: true, matchesNode: true), false),
      (false, .present(isOurs: true, isBeingDeleted: false, matchesNode: false), false),
      (false, .present(isOurs: false, isBeingDeleted: false, matchesNode: true), false), (false, .absent, false),
      (false, .forbidden, false), (false, .unknown("timeout"), true), (false, nil, true), (true, nil, false),
    ])
  func departure(alwaysCleansUp: Bool, daemonSet: DepartureDecision.DaemonSet?, keeps: Bool) {
    switch DepartureDecision.decide(alwaysCleansUp: alwaysCleansUp, daemonSet: daemonSet) {
    case .keep: #expect(keeps)
    case .clean: #expect(!keeps)
    }
  }

  @Test("readiness survives a repair and a short failure, not a long one")
  func readiness() {
    var state = CNIInstallation.State()
    let start = ContinuousClock.now
    let broken = CNIInstaller.Report(problems: [.programMissing("x")])
    state.take(broken, at: start)
    #expect(!state.isReady(at: start))
    state.take(CNIInstaller.Report(changed: ["a"]), at: start)
    #expect(state.isReady(at: start))
    state.take(broken, at: start)
    #expect(state.isReady(at: start + .seconds(9)))
    state.take(broken, at: start + .seconds(9))
    #expect(!state.isReady(at: start + .seconds(11)))
    state.take(CNIInstaller.Report(changed: ["a"]), at: start + .seconds(12))
    #expect(state.isReady(at: start + .seconds(12)))
    #expect(state.counts == ["COPY_BINARIES_FAILURE": 3, "SUCCESS": 2])
  }
}
