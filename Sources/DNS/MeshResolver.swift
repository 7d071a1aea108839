import Mesh
import Vocabulary

/// What is to become of a question.
public enum Resolution: Equatable, Sendable {
  /// The mesh knows nothing of the name or answers no such type: the resolver upstream is asked.
  case forward
  case answer(Answer, AnswerReason)
}

/// What an answer from the mesh is, for the log.
public enum AnswerReason: String, Equatable, Sendable {
  case success
  /// The name is there, and has no address of the type asked for.
  case noRecords = "no records"
  /// The service is of the other family only.
  case unsupportedType = "service does not support this record type"
}

/// Answers questions from the mesh (dns.md §3). A value without I/O: a question, a client and a snapshot decide.
public struct MeshResolver: Equatable, Sendable {
  /// Such as `cluster.local`, in lower case.
  public let clusterDomain: String
  /// Services of this namespace are preferred where the client's own has none, env `PREFERED_SERVICE_NAMESPACE`.
  public let preferredNamespace: String?
  /// Without it no AAAA record is ever given.
  public let answersIPv6: Bool

  public init(clusterDomain: String = "cluster.local", preferredNamespace: String? = nil, answersIPv6: Bool = true) {
    self.clusterDomain = clusterDomain.lowercased()
    self.preferredNamespace = preferredNamespace
    self.answersIPv6 = answersIPv6
  }

  /// Decides about `question`, asked by `client`. `random` orders the records, and chooses among those of a headless service
  /// that has many more than `limit` addresses.
  public func resolve(
    _ question: Question, for client: Workload, in mesh: MeshSnapshot, atMost limit: Int = .max,
    using random: inout some RandomNumberGenerator
  ) -> Resolution {
    guard let family = question.addressFamily, let hostname = question.name.hostname,
      let hit = find(hostname, for: client.namespace, in: mesh)
    else { return .forward }
    guard family == .v4 || answersIPv6, hit.service.hasFamily(family) else {
      return .answer(Answer(addresses: []), .unsupportedType)
    }
    let addresses = addresses(of: hit.service, family, for: client, in: mesh, limit, using: &random)
    guard !addresses.isEmpty else { return .answer(Answer(addresses: []), .noRecords) }
    let answer = Answer(
      alias: hit.stripped.flatMap { DomainName($0) }, addresses: addresses.shuffled(using: &random))
    return .answer(answer, .success)
  }

  /// What the control plane has to be asked for before ``resolve(_:for:in:using:)`` can know better, where the mesh is
  /// learnt on demand: Kubernetes services by the namespace in their names; other hosts, and the wildcards that cover them, in
  /// the client's own namespace and the preferred one. A host cannot be asked for without a namespace.
  public func unsettledKeys(for question: Question, client: Workload, in mesh: MeshSnapshot) -> [MeshKey] {
    guard mesh.settings.isOnDemand, question.addressFamily != nil, let hostname = question.name.hostname else {
      return []
    }
    let suffix = ".svc.\(clusterDomain)"
    var keys: [MeshKey] = []
    for alias in NameExpansion(namespace: client.namespace, clusterDomain: clusterDomain).aliases(of: hostname) {
      let name = alias.hostname
      if name.hasSuffix(suffix) {
        let labels = name.dropLast(suffix.count).split(separator: ".", omittingEmptySubsequences: false)
        guard labels.count == 2, !labels[0].isEmpty, !labels[1].isEmpty else { continue }
        keys.append(.service(NamespacedHostname(namespace: String(labels[1]), hostname: name)))
      } else if name.contains("."), !name.hasSuffix(".svc") {
        for namespace in Set([client.namespace, preferredNamespace ?? client.namespace]).sorted() {
          for host in [name] + Array(NameExpansion.wildcards(of: name)) {
            keys.append(.service(NamespacedHostname(namespace: namespace, hostname: host)))
          }
        }
      }
    }
    return keys.filter { !mesh.isSettled($0) }
  }

  // MARK: The service

  private struct Hit {
    var service: Service
    /// The alias that the client is told of; none when a wildcard was hit (dns.md §3.4).
    var stripped: String?
  }

  private func find(_ hostname: String, for namespace: String, in mesh: MeshSnapshot) -> Hit? {
    for alias in NameExpansion(namespace: namespace, clusterDomain: clusterDomain).aliases(of: hostname) {
      if let service = best(mesh.services(hostname: alias.hostname), for: namespace) {
        return Hit(service: service, stripped: alias.stripped)
      }
      for wildcard in NameExpansion.wildcards(of: alias.hostname) {
        if let service = best(mesh.services(hostname: wildcard), for: namespace) { return Hit(service: service) }
      }
    }
    return nil
  }

  /// The client's own namespace, then the canonical one, then the preferred namespace, then the first (dns.md §3.3).
  private func best(_ candidates: [Service], for namespace: String) -> Service? {
    guard !candidates.isEmpty else { return nil }
    let usable = candidates.filter {
      (!$0.addresses.isEmpty || isKubernetesName($0.hostname))
        && ($0.visibility == .everywhere || $0.namespace == namespace)
    }
    return usable.first { $0.namespace == namespace } ?? usable.last { $0.isCanonical }
      ?? usable.first { $0.namespace == preferredNamespace } ?? usable.first
  }

  private func isKubernetesName(_ hostname: String) -> Bool {
    hostname.lowercased().hasSuffix(".svc.\(clusterDomain)")
  }

  // MARK: Its addresses

  private func addresses(
    of service: Service, _ family: IPAddress.Family, for client: Workload, in mesh: MeshSnapshot, _ limit: Int,
    using random: inout some RandomNumberGenerator
  ) -> [IPAddress] {
    if !service.addresses.isEmpty {
      return unique(service.addresses.lazy.filter { $0.network == client.network }.map(\.ip), family)
    }
    // Headless: the endpoints themselves. Those of other networks cannot be reached by their addresses, so they are
    // named only when there are no others.
    if let sample = mesh.sampleEndpoints(of: service, limit, using: &random) {
      let near = firstAddresses(of: sample.map(\.workload).filter { $0.network == client.network }, family)
      if near.count >= min(limit, sample.count / 2) { return Array(near.prefix(limit)) }
      // Most are of another network or family, so that chance has to do with all of them.
    }
    let workloads = mesh.endpoints(of: service).map(\.workload)
    let near = firstAddresses(of: workloads.filter { $0.network == client.network }, family)
    return near.isEmpty ? firstAddresses(of: workloads, family) : near
  }

  private func firstAddresses(of workloads: [Workload], _ family: IPAddress.Family) -> [IPAddress] {
    unique(workloads.compactMap { workload in workload.addresses.first { $0.canonical.family == family } }, family)
  }

  private func unique(_ addresses: some Sequence<IPAddress>, _ family: IPAddress.Family) -> [IPAddress] {
    var seen: Set<IPAddress> = []
    return addresses.map(\.canonical).filter { $0.family == family && seen.insert($0).inserted }
  }
}

extension Question {
  /// The family of the addresses asked for; nil for other questions, which the mesh does not answer.
  fileprivate var addressFamily: IPAddress.Family? {
    guard recordClass == 1 else { return nil }
    switch type {
    case .a: return .v4
    case .aaaa: return .v6
    default: return nil
    }
  }
}

extension Service {
  fileprivate func hasFamily(_ family: IPAddress.Family) -> Bool {
    switch record.ipFamilies {
    case .automatic, .dual: true
    case .v4Only: family == .v4
    case .v6Only: family == .v6
    }
  }
}
