import Redirection
import Testing
import ZDS

@testable import NodeAgent

@Suite("Files of workloads")
struct WorkloadFileTests {
  func parse(_ text: String) throws(WorkloadFileError) -> [DesiredWorkload] {
    try WorkloadFile.parse(Array(text.utf8), file: "a.yaml")
  }

  @Test("a document is a workload, and what it leaves out has its default")
  func defaults() throws {
    let found = try parse("name: web\nnamespace: shop\nnetns: /run/netns/web\n")
    #expect(
      found == [
        DesiredWorkload(
          uid: uid("shop/web"), info: WorkloadInfo(name: "web", namespace: "shop", serviceAccount: "default"),
          location: .path("/run/netns/web"))
      ])
  }

  @Test("every key is read")
  func allKeys() throws {
    let found = try parse(
      """
      uid: 2c48913c-b29f-11e7-9350-020968147796
      name: web
      namespace: shop
      serviceAccount: front
      pid: 4711
      mesh: false
      annotations:
        ambient.istio.io/bypass-inbound-capture: "T"
        ambient.istio.io/dns-capture: 0
        istio.io/reroute-virtual-interfaces: " tap0, ,tap1 "
      """)
    let workload = try #require(found.first)
    #expect(workload.uid.text == "2c48913c-b29f-11e7-9350-020968147796")
    #expect(workload.info.serviceAccount == "front")
    #expect(workload.location == .process(4711))
    #expect(!workload.inMesh)
    #expect(workload.annotations.bypassInboundCapture == true)
    #expect(workload.annotations.dnsCapture == false)
    #expect(workload.annotations.rerouteInterfaces.map(\.text) == ["tap0", "tap1"])
  }

  @Test("a file may hold documents, lists, and both")
  func several() throws {
    let found = try parse(
      """
      # shop
      name: a
      namespace: shop
      netns: /n/a
      ---
      workloads:
      - {name: b, namespace: shop, netns: /n/b}
      - name: c
        namespace: shop
        netns: /n/c
      ---
      """)
    #expect(found.map(\.info.name) == ["a", "b", "c"])
  }

  @Test("an empty list is no workloads, which is not the same as an empty file")
  func emptyList() throws {
    #expect(try parse("workloads: []\n").isEmpty)
  }

  static let head = "name: a\nnamespace: shop\n"
  static let bad: [(String, Int?, WorkloadFileError.Reason)] = [
    ("", nil, .empty),
    ("# nothing\n", nil, .empty),
    ("just text\n", 1, .wrongType(key: "document", expected: "a mapping")),
    ("- a\n", 1, .wrongType(key: "document", expected: "a mapping")),
    ("name: a\nnamespace: shop\n", 1, .missingKey("netns")),
    ("namespace: shop\nnetns: /n\n", 1, .missingKey("name")),
    ("workloads:\n- name: a\n  netns: /n\n", 2, .missingKey("namespace")),
    ("workloads: 7\n", 1, .wrongType(key: "workloads", expected: "a list")),
    ("workloads:\n- 7\n", 2, .wrongType(key: "workloads", expected: "a list of mappings")),
    ("workloads: []\nmesh: true\n", 2, .unknownKey("mesh", known: ["workloads"])),
    (head + "netns: /n\npid: 7\n", 4, .bothLocations),
    (
      head + "netns: run/netns/a\n", 3,
      .badValue(key: "netns", value: "run/netns/a", expected: "an absolute path such as /run/netns/web")
    ),
    (head + "netns: [/n]\n", 3, .wrongType(key: "netns", expected: "a single value")),
    (head + "pid: -7\n", 3, .badValue(key: "pid", value: "-7", expected: "a process id")),
    (head + "pid: 99999999999\n", 3, .badValue(key: "pid", value: "99999999999", expected: "a process id")),
    (head + "netns: /n\nmesh: maybe\n", 4, .badValue(key: "mesh", value: "maybe", expected: "true or false")),
    (
      head + "netns: /n\nuid: 'a b'\n", 4,
      .badValue(key: "uid", value: "a b", expected: "1 to 128 printable characters without spaces")
    ),
    (
      head + "netns: /n\nserviceAccount: a/b\n", 4,
      .badValue(key: "serviceAccount", value: "a/b", expected: "1 to 253 letters, digits, `-`, `.` or `_`")
    ),
    (head + "netns: /n\nannotations: 7\n", 4, .wrongType(key: "annotations", expected: "a mapping")),
    (
      head + "netns: /n\nannotations:\n  ambient.istio.io/dns-capture: yes\n", 5,
      .badValue(key: "ambient.istio.io/dns-capture", value: "yes", expected: "true or false")
    ),
    (
      head + "netns: /n\nannotations:\n  istio.io/reroute-virtual-interfaces: tap0,a/b\n", 5,
      .badValue(key: "istio.io/reroute-virtual-interfaces", value: "a/b", expected: "names of interfaces")
    ),
    (head + "netns: *here\n", 3, .alias),
    ("name: &a x\n", 1, .alias),
    (String(repeating: "[", count: 100_000), 1, .tooDeep),
    (String(repeating: "- ", count: 10_000), 1, .tooDeep),
    ((0..<100).map { String(repeating: " ", count: $0) + "a:\n" }.joined(), 65, .tooDeep),
    ("a\u{0}b", nil, .notText),
  ]

  @Test("what is wrong is named with its line", arguments: bad)
  func badFiles(text: String, line: Int?, reason: WorkloadFileError.Reason) {
    let found = #expect(throws: WorkloadFileError.self) { try parse(text) }
    #expect(found?.reason == reason)
    #expect(found?.line == line)
  }

  @Test("an unknown key is an error that names the known ones")
  func unknownKey() {
    let found = #expect(throws: WorkloadFileError.self) { try parse(Self.head + "netns: /n\nnetnss: /n\n") }
    #expect(found?.line == 4)
    #expect(found?.description.contains("`netnss`; known are uid, name, namespace, serviceAccount, netns") == true)
  }

  @Test("an unknown annotation is an error, because it is one that has no effect")
  func unknownAnnotation() {
    let text = Self.head + "netns: /n\nannotations:\n  ambient.istio.io/dns_capture: true\n"
    let found = #expect(throws: WorkloadFileError.self) { try parse(text) }
    #expect(found?.code == "WORKLOAD_FILE_UNKNOWN_KEY")
    #expect(found?.line == 5)
  }

  @Test(
    "broken YAML is named with its line",
    arguments: [
      ("a: [1,\n", 2), ("name: a\nname: b\n", 2), ("\tname: a\n", 1), ("name: 'a\n", 2), ("name: a\n bad: b\n", 2),
    ])
  func syntax(text: String, line: Int) {
    let found = #expect(throws: WorkloadFileError.self) { try parse(text) }
    #expect(found?.code == "WORKLOAD_FILE_NOT_YAML")
    #expect(found?.line == line)
  }

  @Test("bytes that are no UTF-8 are refused")
  func notText() {
    #expect(throws: WorkloadFileError(file: "a.yaml", line: nil, reason: .notText)) {
      try WorkloadFile.parse([0xff, 0xfe], file: "a.yaml")
    }
  }

  @Test("a file past its limit is refused before it is read as YAML")
  func tooLarge() {
    #expect(throws: WorkloadFileError.self) {
      try WorkloadFile.parse([UInt8](repeating: 0x23, count: WorkloadFile.maximumBytes + 1), file: "a.yaml")
    }
  }

  @Test("too many workloads are refused")
  func tooMany() {
    let text = (0...WorkloadFile.maximumWorkloads).map { "- {name: w\($0), namespace: s, netns: /n}\n" }.joined()
    let found = #expect(throws: WorkloadFileError.self) { try parse("workloads:\n" + text) }
    #expect(found?.reason == .tooManyWorkloads(limit: WorkloadFile.maximumWorkloads))
  }

  @Test("random bytes never do more than fail", arguments: [UInt64(1), 2, 3])
  func fuzz(seed: UInt64) {
    var state = seed
    func random(_ bound: Int) -> Int {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return Int(state >> 33) % bound
    }
    let alphabet = Array("name: web\n-[]{}'\"&*#|>?,!%@`\t~0/".utf8)
    let sound = Array("workloads:\n- name: a\n  namespace: shop\n  netns: /n\n  annotations: {}\n".utf8)
    for round in 0..<3000 {
      var bytes = round.isMultiple(of: 2) ? sound : []
      if bytes.isEmpty { bytes = (0..<random(80)).map { _ in alphabet[random(alphabet.count)] } }
      for _ in 0..<random(4) where !bytes.isEmpty { bytes[random(bytes.count)] = alphabet[random(alphabet.count)] }
      do {
        let found = try WorkloadFile.parse(bytes, file: "a.yaml")
        #expect(found.count <= bytes.count)
      } catch { #expect(error.file == "a.yaml") }
    }
  }

  @Test("a workload's wishes win over the node's settings")
  func adjusted() throws {
    let node = RedirectionSettings(dnsCapture: true)
    var annotations = CaptureAnnotations()
    #expect(node.adjusted(by: annotations) == node)
    try annotations.set("ambient.istio.io/dns-capture", to: "false")
    try annotations.set("ambient.istio.io/bypass-inbound-capture", to: "1")
    let adjusted = node.adjusted(by: annotations)
    #expect(!adjusted.dnsCapture)
    #expect(adjusted.bypassInboundCapture)
  }

  @Test(
    "booleans are those of Go's ParseBool",
    arguments: [
      ("1", true), ("t", true), ("T", true), ("TRUE", true), ("true", true), ("True", true), ("0", false), ("f", false),
      ("F", false), ("FALSE", false), ("false", false), ("False", false), ("yes", nil), ("", nil), ("tRUE", nil),
    ] as [(String, Bool?)])
  func booleans(text: String, value: Bool?) {
    #expect((try? CaptureAnnotations.boolean(text)) == value)
  }
}
