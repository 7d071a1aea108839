import Mesh
import Vocabulary

@testable import DNS

/// A reproducible source of randomness (SplitMix64).
struct SeededGenerator: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var value = state
    value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
    return value ^ (value >> 31)
  }
}

/// A message built byte by byte, as clients and servers on the wire build theirs.
struct MessageBytes {
  var bytes: [UInt8]

  /// A query for one name, id 0x1234, recursion desired.
  init(
    query name: String, _ type: RecordType = .a, flags: UInt16 = 0x0100, recordClass: UInt16 = 1,
    edns: (payload: UInt16, version: UInt8, flags: UInt16)? = nil
  ) throws {
    guard let domain = DomainName(name) else { throw DecodingError.unknownLabel }
    bytes = [0x12, 0x34] + Self.two(flags) + [0, 1, 0, 0, 0, 0, 0, edns == nil ? 0 : 1]
    bytes += domain.wire + Self.two(type.rawValue) + Self.two(recordClass)
    if let edns {
      bytes += [0, 0, 41] + Self.two(edns.payload) + [0, edns.version] + Self.two(edns.flags) + [0, 0]
    }
  }

  static func two(_ value: UInt16) -> [UInt8] { [UInt8(value >> 8), UInt8(value & 255)] }
}

func query(
  _ name: String, _ type: RecordType = .a, flags: UInt16 = 0x0100, recordClass: UInt16 = 1,
  edns: (payload: UInt16, version: UInt8, flags: UInt16)? = nil
) throws -> Query {
  let message = try MessageBytes(query: name, type, flags: flags, recordClass: recordClass, edns: edns)
  guard case .query(let query) = Intake(message.bytes) else { throw DecodingError.truncated }
  return query
}

/// A message taken apart again, its names decompressed.
struct Decoded: Equatable {
  struct Record: Equatable {
    var name: DomainName
    var type: RecordType
    var recordClass: UInt16
    var timeToLive: UInt32
    var data: [UInt8]
  }

  var header: MessageHeader
  var questions: [Question] = []
  var records: [Record] = []
  /// Where each record's name starts.
  var dataOffsets: [Int] = []

  init(_ message: [UInt8]) throws {
    guard let header = MessageHeader(message) else { throw DecodingError.truncated }
    self.header = header
    var reader = MessageReader(message, at: MessageHeader.size)
    for _ in 0..<header.questionCount { questions.append(try Question(&reader)) }
    let count = Int(header.answerCount) + Int(header.authorityCount) + Int(header.additionalCount)
    for _ in 0..<count {
      let (name, type, recordClass) = (
        try reader.name(), RecordType(rawValue: try reader.number()), try reader.number()
      )
      let timeToLive = try reader.longNumber()
      let length = Int(try reader.number())
      dataOffsets.append(reader.index)
      let data = [UInt8](try reader.take(length))
      records.append(
        Record(name: name, type: type, recordClass: recordClass, timeToLive: timeToLive, data: data))
    }
    guard reader.index == message.count else { throw DecodingError.truncated }
  }

  var answers: ArraySlice<Record> { records.prefix(Int(header.answerCount)) }
  var addresses: [IPAddress] { answers.filter { $0.type != .cname }.compactMap { IPAddress(bytes: $0.data) } }
}

/// The mesh of the examples in dns.md §3.4, and more.
enum ExampleMesh {
  static func address(_ text: String, _ network: String = "") throws -> NetworkAddress {
    guard let ip = IPAddress(text) else { throw DecodingError.truncated }
    return NetworkAddress(network: network, ip: ip)
  }

  static func service(
    _ namespace: String, _ hostname: String, _ addresses: [NetworkAddress],
    _ change: (inout Service.Record) -> Void = { _ in }
  ) -> MeshChange {
    var record = Service.Record(namespace: namespace, hostname: hostname)
    record.addresses = addresses
    change(&record)
    return .upsertService(record)
  }

  static func workload(
    _ name: String, _ namespace: String, _ addresses: [String], network: String = "",
    health: Workload.Health = .healthy, services: [String] = []
  ) -> MeshChange {
    var record = Workload.Record(uid: "Kubernetes//Pod/\(namespace)/\(name)")
    record.name = name
    record.namespace = namespace
    record.addresses = addresses.compactMap { IPAddress($0) }
    record.network = network
    record.health = health
    for service in services {
      record.services[NamespacedHostname(namespace: namespace, hostname: service)] = [80: 8080]
    }
    return .upsertWorkload(record)
  }

  static func make() throws -> MeshSnapshot {
    let domain = "svc.cluster.local"
    return MeshSnapshot().applying([
      workload("client", "ns1", ["10.0.0.9"]),
      service("ns1", "www.google.com", [try address("10.9.0.1")]),
      service("ns1", "productpage.ns1.\(domain)", [try address("10.9.0.2"), try address("fd00::2")]),
      service("ns2", "example.ns2.\(domain)", [try address("10.9.0.3")]),
      service("ns1", "*.wildcard", [try address("10.9.0.4")]),
      service("ns1", "*.b.wildcard", [try address("10.9.0.5")]),
      service("ns1", "*.svc.mesh.corp", [try address("10.9.0.6")]),
      service("ns2", "hidden.ns2.\(domain)", [try address("10.9.0.7")]) { $0.visibility = .namespace },
      service("ns1", "four.ns1.\(domain)", [try address("10.9.0.8"), try address("fd00::8")]) {
        $0.ipFamilies = .v4Only
      },
      service("ns1", "six.ns1.\(domain)", [try address("10.9.0.10"), try address("fd00::10")]) {
        $0.ipFamilies = .v6Only
      },
      service("ns1", "far.ns1.\(domain)", [try address("10.9.0.11", "other")]),
      service("ns1", "ranges.example.com", []) { record in
        if let prefix = IPPrefix("10.200.0.0/16") { record.prefixes = [NetworkPrefix(network: "", prefix: prefix)] }
      },
      service("ns1", "Mixed.Example.COM", [try address("10.9.4.1")]),
      service("ns1", "headless.ns1.\(domain)", []),
      service("ns1", "nobody.ns1.\(domain)", []),
      service("ns1", "remote.ns1.\(domain)", []),
      service("ns1", "twice.ns1.\(domain)", [try address("10.9.0.12"), try address("::ffff:10.9.0.12")]),
      service("ns2", "shared.example.com", [try address("10.9.1.2")]),
      service("ns3", "shared.example.com", [try address("10.9.1.3")]) { $0.isCanonical = true },
      service("ns1", "own.example.com", [try address("10.9.2.1")]),
      service("ns0", "own.example.com", [try address("10.9.2.0")]) { $0.isCanonical = true },
      service("ns4", "plain.example.com", [try address("10.9.3.4")]),
      service("ns5", "plain.example.com", [try address("10.9.3.5")]),
      workload("h1", "ns1", ["10.0.1.1", "10.0.1.2", "fd00:1::1"], services: ["headless.ns1.\(domain)"]),
      workload("h2", "ns1", ["10.0.1.3"], services: ["headless.ns1.\(domain)"]),
      workload("h3", "ns1", ["10.0.1.4"], health: .unhealthy, services: ["headless.ns1.\(domain)"]),
      workload("h4", "ns1", ["10.0.1.5"], network: "other", services: ["headless.ns1.\(domain)"]),
      workload("r1", "ns1", ["10.0.1.6"], network: "other", services: ["remote.ns1.\(domain)"]),
    ]).snapshot
  }
}
