import JSON
import Testing

@testable import CNI

@Suite("What to do in a configuration directory")
struct InstallationPlanTests {
  private let entry = PluginEntry(excludedNamespaces: ["kube-system"], agentNamespace: "istio-system")
  private let list = NetworkConfigurationTests.list
  private let single = NetworkConfigurationTests.single

  /// A directory that plans are carried out in.
  private struct Directory {
    var files: [String: String]

    var listed: [InstallationPlan.File] {
      files.map { InstallationPlan.File(name: $0.key, bytes: Array($0.value.utf8)) }
    }

    /// After each step a runtime must find what it found before, or our entry.
    mutating func perform(_ plan: InstallationPlan) {
      for step in plan.steps {
        switch step {
        case .write(let file, let bytes, _): files[file] = String(decoding: bytes, as: UTF8.self)
        case .rename(let from, let to): files[to] = files.removeValue(forKey: from)
        case .remove(let file): files[file] = nil
        }
      }
    }

    mutating func install(_ entry: PluginEntry, _ mode: InstallationPlan.Mode) -> InstallationPlan {
      let plan = InstallationPlan.install(entry, mode, in: listed)
      perform(plan)
      return plan
    }

    /// What containerd and CRI-O would run for a new pod.
    var typesInUse: [String] {
      let valid = files.keys.sorted().lazy.compactMap { name -> NetworkConfiguration? in
        guard let form = NetworkConfiguration.form(ofFile: name), let text = files[name] else { return nil }
        return try? NetworkConfiguration(Array(text.utf8), as: form)
      }
      return valid.first?.plugins.compactMap(NetworkConfiguration.type) ?? []
    }
  }

  @Test("the list that the runtime uses gets our entry, once and for all")
  func chained() {
    var directory = Directory(files: ["10-a.conflist": list, "20-b.conflist": list])
    let plan = directory.install(entry, .chained(file: nil))
    #expect(plan.primary == "10-a.conflist")
    #expect(directory.typesInUse == ["bridge", "portmap", "ambient-cni"])
    #expect(directory.files["20-b.conflist"] == list)
    #expect(directory.install(entry, .chained(file: nil)).steps.isEmpty)
  }

  @Test("a single plugin becomes a list, and comes back as it was")
  func singlePlugin() {
    var directory = Directory(files: ["10-a.conf": single])
    let plan = directory.install(entry, .chained(file: nil))
    #expect(plan.primary == "10-a.conflist")
    #expect(directory.typesInUse == ["bridge", "ambient-cni"])
    #expect(directory.install(entry, .chained(file: nil)).steps.isEmpty)
    directory.perform(.remove(.chained(file: nil), from: directory.listed))
    #expect(directory.files == ["10-a.conf": single])
  }

  @Test("a single plugin that is written anew is taken anew")
  func rewrittenSingle() {
    var directory = Directory(files: ["10-a.conf": single])
    _ = directory.install(entry, .chained(file: nil))
    directory.files["10-a.conf"] = single.replacing("host-local", with: "dhcp")
    _ = directory.install(entry, .chained(file: nil))
    #expect(directory.typesInUse == ["bridge", "ambient-cni"])
    #expect(directory.files["10-a.conflist"]?.contains("dhcp") == true)
  }

  @Test("a list that others have changed meanwhile is not thrown away for what was saved")
  func changedList() throws {
    var directory = Directory(files: ["10-a.conf": single])
    _ = directory.install(entry, .chained(file: nil))
    let changed = try #require(directory.files["10-a.conflist"]).replacing("host-local", with: "dhcp")
    directory.files["10-a.conflist"] = changed
    directory.perform(.remove(.chained(file: nil), from: directory.listed))
    #expect(Array(directory.files.keys) == ["10-a.conflist"])
    #expect(directory.typesInUse == ["bridge"])
    #expect(directory.files["10-a.conflist"]?.contains("dhcp") == true)
  }

  @Test("an entry that lost its content is put right")
  func content() {
    var directory = Directory(files: ["10-a.conflist": list])
    _ = directory.install(PluginEntry(excludedNamespaces: ["everything"]), .chained(file: nil))
    #expect(!directory.install(entry, .chained(file: nil)).steps.isEmpty)
    #expect(directory.files["10-a.conflist"]?.contains("everything") == false)
  }

  @Test("a file that comes to sort first gets our entry too")
  func preempted() {
    var directory = Directory(files: ["10-a.conflist": list])
    _ = directory.install(entry, .chained(file: nil))
    directory.files["05-new.conflist"] = #"{"name":"new","plugins":[{"type":"cilium-cni"}]}"#
    let plan = directory.install(entry, .chained(file: nil))
    #expect(plan.primary == "05-new.conflist")
    #expect(directory.typesInUse == ["cilium-cni", "ambient-cni"])
    directory.perform(.remove(.chained(file: nil), from: directory.listed))
    #expect(directory.files.values.allSatisfy { !$0.contains("ambient-cni") })
    #expect(directory.files.count == 2)
  }

  @Test("a file that is overwritten gets our entry again")
  func overwritten() {
    var directory = Directory(files: ["10-a.conflist": list])
    _ = directory.install(entry, .chained(file: nil))
    directory.files["10-a.conflist"] = list
    _ = directory.install(entry, .chained(file: nil))
    #expect(directory.typesInUse == ["bridge", "portmap", "ambient-cni"])
  }

  @Test("a malformed file is named and left alone, and the next one is used")
  func malformed() {
    var directory = Directory(files: ["05-bad.conflist": "{\"name\":", "10-a.conflist": list])
    let plan = directory.install(entry, .chained(file: nil))
    #expect(plan.problems.map(\.file) == ["05-bad.conflist"])
    #expect(plan.problems.map(\.isFatal) == [false])
    #expect(directory.files["05-bad.conflist"] == "{\"name\":")
    #expect(directory.typesInUse == ["bridge", "portmap", "ambient-cni"])
  }

  @Test(
    "without any configuration there is nothing to do but wait",
    arguments: [
      InstallationPlan.Mode.chained(file: nil), .chained(file: "10-a.conflist"), .owned(file: "02-own.conflist"),
    ])
  func nothingThere(mode: InstallationPlan.Mode) {
    var directory = Directory(files: ["readme": "x", "bad.conf": "{"])
    let plan = directory.install(entry, mode)
    #expect(plan.steps.isEmpty)
    #expect(plan.problems.contains { $0.isFatal })
  }

  @Test("the file that the operator named gets our entry, as .conf or .conflist, and so does the one in use")
  func explicit() {
    var directory = Directory(files: ["10-a.conflist": list, "20-b.conf": single])
    let plan = directory.install(entry, .chained(file: "20-b.conflist"))
    #expect(directory.files["20-b.conflist"]?.contains("ambient-cni") == true)
    #expect(directory.typesInUse == ["bridge", "portmap", "ambient-cni"])
    #expect(plan.problems.map(\.file) == ["10-a.conflist"])
    #expect(plan.problems.map(\.isFatal) == [false])
    #expect(directory.install(entry, .chained(file: "20-b.conf")).steps.isEmpty)
  }

  @Test("a file of our own is made from the one that would be used, which stays as it is")
  func owned() {
    var directory = Directory(files: ["10-a.conflist": list])
    let mode = InstallationPlan.Mode.owned(file: "02-istio-cni.conflist")
    #expect(directory.install(entry, mode).primary == "02-istio-cni.conflist")
    #expect(directory.files["10-a.conflist"] == list)
    #expect(directory.typesInUse == ["bridge", "portmap", "ambient-cni"])
    #expect(directory.install(entry, mode).steps.isEmpty)
    directory.perform(.remove(mode, from: directory.listed))
    #expect(directory.files == ["10-a.conflist": list])
  }

  @Test("our own file follows the other one's parameters, not only its types")
  func ownedFollows() {
    var directory = Directory(files: ["10-a.conflist": list])
    let mode = InstallationPlan.Mode.owned(file: "02-istio-cni.conflist")
    _ = directory.install(entry, mode)
    directory.files["10-a.conflist"] = list.replacing("host-local", with: "dhcp")
    _ = directory.install(entry, mode)
    #expect(directory.files["02-istio-cni.conflist"]?.contains("dhcp") == true)
  }

  @Test("a file that comes before our own gets our entry too")
  func ownedPreempted() {
    var directory = Directory(files: ["01-a.conflist": list])
    let mode = InstallationPlan.Mode.owned(file: "02-istio-cni.conflist")
    let plan = directory.install(entry, mode)
    #expect(plan.primary == "01-a.conflist")
    #expect(plan.problems.map(\.file) == ["01-a.conflist"])
    #expect(directory.typesInUse == ["bridge", "portmap", "ambient-cni"])
    #expect(directory.install(entry, mode).steps.isEmpty)
    directory.perform(.remove(mode, from: directory.listed))
    #expect(directory.files.keys.sorted() == ["01-a.conflist"])
    #expect(directory.typesInUse == ["bridge", "portmap"])
  }

  @Test("our own file stays in force when the one it was made from goes")
  func ownedAlone() {
    var directory = Directory(files: ["10-a.conflist": list])
    let mode = InstallationPlan.Mode.owned(file: "02-istio-cni.conflist")
    _ = directory.install(entry, mode)
    directory.files["10-a.conflist"] = nil
    let plan = directory.install(entry, mode)
    #expect(plan.steps.isEmpty)
    #expect(plan.problems.map(\.isFatal) == [false])
    #expect(directory.typesInUse.last == "ambient-cni")
  }

  @Test("a file for a multiplexer holds our plugin alone")
  func standalone() throws {
    var directory = Directory(files: ["10-a.conflist": list])
    let mode = InstallationPlan.Mode.standalone(file: "YYY-istio-cni.conf")
    _ = directory.install(entry, mode)
    let text = try #require(directory.files["YYY-istio-cni.conf"])
    #expect(try JSONValue.parse(Array(text.utf8))["type"] == "ambient-cni")
    #expect(try JSONValue.parse(Array(text.utf8))["cniVersion"] == "0.3.1")
    #expect(directory.files["10-a.conflist"] == list)
    #expect(directory.install(entry, mode).steps.isEmpty)
    directory.perform(.remove(mode, from: directory.listed))
    #expect(directory.files == ["10-a.conflist": list])
  }

  @Test("between two steps the runtime always finds a configuration")
  func noGap() {
    for files in [["10-a.conf": single], ["10-a.conflist": list], ["10-a.conf": single, "10-a.conflist": list]] {
      var directory = Directory(files: files)
      let install = InstallationPlan.install(entry, .chained(file: nil), in: directory.listed)
      for step in install.steps {
        directory.perform(InstallationPlan(steps: [step]))
        #expect(directory.typesInUse.first == "bridge")
      }
      #expect(directory.typesInUse.last == "ambient-cni")
      for step in InstallationPlan.remove(.chained(file: nil), from: directory.listed).steps {
        directory.perform(InstallationPlan(steps: [step]))
        #expect(directory.typesInUse.first == "bridge")
      }
      #expect(!directory.typesInUse.contains("ambient-cni"))
    }
  }

  @Test("the kubeconfig holds address, authorities and token")
  func kubeconfig() throws {
    let file = AgentKubeconfig(host: "fd00::1", port: "443", authorities: Array("PEM".utf8), token: "t0")
    let value = try JSONValue.parse(file.bytes)
    let cluster = value["clusters"]?.array?.first?["cluster"]
    #expect(cluster?["server"] == "https://[fd00::1]:443")
    #expect(cluster?["certificate-authority-data"] == "UEVN")
    #expect(value["users"]?.array?.first?["user"]?["token"] == "t0")
    #expect(value["current-context"] == value["contexts"]?.array?.first?["name"])
    let unverified = AgentKubeconfig(host: "h", port: "1", authorities: nil, token: "t")
    #expect(
      try JSONValue.parse(unverified.bytes)["clusters"]?.array?.first?["cluster"]?["insecure-skip-tls-verify"] == true)
  }

  @Test(
    "bytes are encoded in base 64",
    arguments: [
      ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="), ("\u{ff}\u{ff}", "w7/Dvw=="),
    ])
  func base64(text: String, encoded: String) {
    #expect(Base64Text.encode(Array(text.utf8)) == encoded)
  }
}
