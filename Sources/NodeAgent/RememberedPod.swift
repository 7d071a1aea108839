import JSON
import Kubernetes
import Linux
import Vocabulary
import ZDS

/// A pod of the mesh as one run of the agent leaves it to the next, which may find no API server to ask.
///
/// It says where to look and what is wanted there, and proves nothing: the namespace must have the pod's address inside,
/// and where it is found by its path it must be the one that was enrolled.
struct RememberedPod: Equatable {
  var uid: String
  var info: WorkloadInfo
  var addresses: [IPAddress]
  var annotations: CaptureAnnotations
  var sandbox: ClusterView.Sandbox?

  /// Nil where nothing would prove a namespace to be the pod's.
  var workload: DesiredWorkload? {
    guard let uid = WorkloadUID(uid), !addresses.isEmpty || sandbox?.namespace != nil else { return nil }
    let path = sandbox?.namespace == nil ? nil : sandbox?.path
    return DesiredWorkload(
      uid: uid, info: info,
      location: .pod(
        PodPlacement(uid: uid.text, addresses: addresses, sandbox: path, expected: sandbox?.namespace)),
      annotations: annotations)
  }

  var reference: ObjectReference { ObjectReference(namespace: info.namespace, name: info.name) }

  // MARK: As bytes

  /// Written with the boot it is true for.
  func bytes(boot: String) -> [UInt8] {
    var object = JSONObject([
      .init(key: "boot", value: .string(boot)), .init(key: "name", value: .string(info.name)),
      .init(key: "namespace", value: .string(info.namespace)),
      .init(key: "serviceAccount", value: .string(info.serviceAccount)),
      .init(key: "addresses", value: .strings(addresses.map(\.description))),
      .init(
        key: "annotations",
        value: .object(JSONObject(annotations.texts.map { .init(key: $0.key, value: .string($0.value)) }))),
    ])
    if let sandbox {
      var inner = JSONObject([.init(key: "addresses", value: .strings(sandbox.addresses.map(\.description)))])
      inner["path"] = sandbox.path.map(JSONValue.string)
      inner["container"] = sandbox.containerID.map(JSONValue.string)
      // As text: a number of JSON may not hold all of it.
      inner["device"] = sandbox.namespace.map { .string("\($0.device)") }
      inner["inode"] = sandbox.namespace.map { .string("\($0.inode)") }
      object["sandbox"] = .object(inner)
    }
    return JSONValue.object(object).bytes
  }

  /// Nil for what makes no sense, and for what was true before the machine booted.
  init?(uid: String, bytes: [UInt8], boot: String) {
    guard let value = try? JSONValue.parse(bytes, limits: .init(bytes: 64 << 10)), value["boot"]?.string == boot,
      let name = value["name"]?.string, let namespace = value["namespace"]?.string,
      let account = value["serviceAccount"]?.string, let addresses = Self.addresses(value["addresses"])
    else { return nil }
    let texts = value["annotations"]?.object?.members.compactMap { member in
      member.value.string.map { (member.key, $0) }
    }
    self.init(
      uid: uid, info: WorkloadInfo(name: name, namespace: namespace, serviceAccount: account), addresses: addresses,
      annotations: CaptureAnnotations.of(Dictionary(texts ?? []) { first, _ in first }).wishes, sandbox: nil)
    guard let inner = value["sandbox"], let known = Self.addresses(inner["addresses"]) else { return }
    var identity: NamespaceIdentity?
    if let device = inner["device"]?.string.flatMap({ UInt64($0) }),
      let inode = inner["inode"]?.string.flatMap({ UInt64($0) })
    {
      identity = NamespaceIdentity(device: device, inode: inode)
    }
    sandbox = ClusterView.Sandbox(
      path: inner["path"]?.string, containerID: inner["container"]?.string, addresses: known, namespace: identity)
  }

  init(
    uid: String, info: WorkloadInfo, addresses: [IPAddress], annotations: CaptureAnnotations,
    sandbox: ClusterView.Sandbox?
  ) {
    self.uid = uid
    self.info = info
    self.addresses = addresses
    self.annotations = annotations
    self.sandbox = sandbox
  }

  private static func addresses(_ value: JSONValue?) -> [IPAddress]? {
    guard let texts = value?.array else { return nil }
    let addresses = texts.compactMap { $0.string.flatMap { IPAddress($0) } }
    return addresses.count == texts.count ? addresses : nil
  }
}

extension CaptureAnnotations {
  /// The annotations that wish this, as ``of(_:)`` reads them.
  fileprivate var texts: [(key: String, value: String)] {
    var texts: [(key: String, value: String)] = []
    if let bypassInboundCapture { texts.append((Self.bypassInboundCaptureKey, "\(bypassInboundCapture)")) }
    if let dnsCapture { texts.append((Self.dnsCaptureKey, "\(dnsCapture)")) }
    if !rerouteInterfaces.isEmpty {
      texts.append((Self.rerouteInterfacesKey, rerouteInterfaces.map(\.description).joined(separator: ",")))
    }
    return texts
  }
}

/// What is remembered of all pods of the node, a file each. Losing it costs only what it is for, so nothing here fails.
struct PodMemory {
  private let files: RememberedFiles
  private let boot: String
  private var stored: [String: [UInt8]] = [:]
  /// Spares the writing down of what has not changed, which is nearly all at nearly every change.
  private var last: [String: RememberedPod] = [:]

  /// `boot` tells this boot of the machine from others.
  init(_ files: RememberedFiles, boot: String = Self.currentBoot) {
    self.files = files
    self.boot = boot
    for name in files.names() { stored[name] = files.load(name) ?? [] }
  }

  /// UIDs of pods that may have redirection of ours inside.
  var touched: Set<String> { Set(stored.keys) }

  /// Pods of the mesh.
  var pods: [String: RememberedPod] {
    var pods: [String: RememberedPod] = [:]
    for (uid, bytes) in stored { pods[uid] = RememberedPod(uid: uid, bytes: bytes, boot: boot) }
    return pods
  }

  mutating func remember(_ pod: RememberedPod) {
    guard last[pod.uid] != pod else { return }
    last[pod.uid] = pod
    store(pod.bytes(boot: boot), of: pod.uid)
  }

  /// It is to leave the mesh, or on its way out: only that there may be something inside is left to know.
  mutating func rememberTouched(_ uid: String) {
    last[uid] = nil
    store([], of: uid)
  }

  mutating func forget(_ uid: String) {
    last[uid] = nil
    guard stored.removeValue(forKey: uid) != nil else { return }
    files.remove(uid)
  }

  private mutating func store(_ bytes: [UInt8], of uid: String) {
    // A UID is what the API server says it is, and a file name here.
    guard stored[uid] != bytes, !uid.isEmpty, !uid.hasPrefix("."), !uid.contains("/") else { return }
    stored[uid] = bytes
    files.store(bytes, as: uid)
  }

  /// Empty where the kernel does not say.
  static var currentBoot: String {
    let bytes = (try? SmallFile.read("/proc/sys/kernel/random/boot_id", limit: 256)) ?? []
    return String(String(decoding: bytes, as: UTF8.self).filter { !$0.isWhitespace })
  }
}
