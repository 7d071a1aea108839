import Vocabulary

extension Workload {
  /// The fields of a workload (xds.md §5.1), with the defaults of that table.
  ///
  /// A mesh has many workloads and few kinds of them: what the replicas of one deployment have in common is in a
  /// ``Template`` and where they run in a ``Placement``, each kept once for all who have the same.
  public struct Record: Hashable, Sendable {
    public static let defaultTrustDomain = "cluster.local"
    public static let defaultServiceAccount = "default"
    public static let defaultClusterID = "Kubernetes"

    /// Primary key.
    public var uid: String {
      didSet { name = ownName ?? Self.lastPart(of: oldValue) }
    }
    /// Nil where the uid ends with it, as those of pods do.
    private var ownName: String? = ""
    public var addresses: [IPAddress] = []
    public var health = Health.healthy
    public var sharedTemplate: Shared<Template>
    public var sharedPlacement: Shared<Placement>

    public init(uid: String, template: Shared<Template>, placement: Shared<Placement>) {
      self.uid = uid
      sharedTemplate = template
      sharedPlacement = placement
    }

    public init(uid: String) { self.init(uid: uid, template: Self.emptyTemplate, placement: Self.emptyPlacement) }

    private static let emptyTemplate = Shared(Template())
    private static let emptyPlacement = Shared(Placement())

    public var name: String {
      get { ownName ?? Self.lastPart(of: uid) }
      set { ownName = !newValue.isEmpty && Self.lastPart(of: uid) == newValue ? nil : newValue }
    }

    private static func lastPart(of uid: String) -> String {
      uid.utf8.lastIndex(of: UInt8(ascii: "/")).map { String(uid[uid.utf8.index(after: $0)...]) } ?? ""
    }

    /// istiod writes `<cluster>//Pod/<namespace>/<name>` for pods.
    public var isPod: Bool { uid.contains("//Pod/") }

    /// Fills in what an empty string stands for (xds.md §5.1).
    mutating func applyIdentityDefaults() {
      if sharedTemplate.value.hasIdentityGaps { template.applyIdentityDefaults() }
    }

    public var template: Template {
      get { sharedTemplate.value }
      set { sharedTemplate = Shared(newValue) }
    }

    public var placement: Placement {
      get { sharedPlacement.value }
      set { sharedPlacement = Shared(newValue) }
    }
  }

  /// Where a workload runs.
  public struct Placement: Hashable, Sendable {
    public var node: String
    public var locality: Locality

    public init(node: String = "", locality: Locality = Locality()) {
      self.node = node
      self.locality = locality
    }
  }

  /// What the replicas of one deployment have in common.
  public struct Template: Hashable, Sendable {
    public var namespace = ""
    public var network = ""
    public var tunnelProtocol = TunnelProtocol.none
    public var trustDomain = Record.defaultTrustDomain
    public var serviceAccount = Record.defaultServiceAccount
    public var waypoint: GatewayReference?
    public var networkGateway: GatewayReference?
    public var canonicalName = ""
    public var canonicalRevision = ""
    public var kind = Kind.deployment
    public var workloadName = ""
    /// The workload speaks HBONE itself.
    public var hasNativeTunnel = false
    /// Names (`namespace/name`) of the policies attached to this workload.
    public var authorizationPolicies: [String] = []
    public var clusterID = Record.defaultClusterID
    /// To be resolved by DNS when there are no addresses.
    public var hostname = ""
    /// The services this workload is an endpoint of, with its own target port for each service port.
    public var services: [NamespacedHostname: [UInt16: UInt16]] = [:]
    public var applicationTunnel: ApplicationTunnel?
    public var networkMode = NetworkMode.standard
    /// Weight in load balancing; 0 is never selected.
    public var capacity: UInt32 = 1

    public init() {}

    /// True where the wire says "use the default", with an empty string (xds.md §5.1).
    var hasIdentityGaps: Bool { trustDomain.isEmpty || serviceAccount.isEmpty || clusterID.isEmpty }

    /// Fills the gaps.
    public mutating func applyIdentityDefaults() {
      if trustDomain.isEmpty { trustDomain = Record.defaultTrustDomain }
      if serviceAccount.isEmpty { serviceAccount = Record.defaultServiceAccount }
      if clusterID.isEmpty { clusterID = Record.defaultClusterID }
    }
  }
}

// The fields of both, as those of the record.
extension Workload.Record {
  public var node: String {
    get { sharedPlacement.value.node }
    set { placement.node = newValue }
  }

  public var locality: Workload.Locality {
    get { sharedPlacement.value.locality }
    set { placement.locality = newValue }
  }

  public var namespace: String {
    get { sharedTemplate.value.namespace }
    set { template.namespace = newValue }
  }

  public var network: String {
    get { sharedTemplate.value.network }
    set { template.network = newValue }
  }

  public var tunnelProtocol: Workload.TunnelProtocol {
    get { sharedTemplate.value.tunnelProtocol }
    set { template.tunnelProtocol = newValue }
  }

  public var trustDomain: String {
    get { sharedTemplate.value.trustDomain }
    set { template.trustDomain = newValue }
  }

  public var serviceAccount: String {
    get { sharedTemplate.value.serviceAccount }
    set { template.serviceAccount = newValue }
  }

  public var waypoint: GatewayReference? {
    get { sharedTemplate.value.waypoint }
    set { template.waypoint = newValue }
  }

  public var networkGateway: GatewayReference? {
    get { sharedTemplate.value.networkGateway }
    set { template.networkGateway = newValue }
  }

  public var canonicalName: String {
    get { sharedTemplate.value.canonicalName }
    set { template.canonicalName = newValue }
  }

  public var canonicalRevision: String {
    get { sharedTemplate.value.canonicalRevision }
    set { template.canonicalRevision = newValue }
  }

  public var kind: Workload.Kind {
    get { sharedTemplate.value.kind }
    set { template.kind = newValue }
  }

  public var workloadName: String {
    get { sharedTemplate.value.workloadName }
    set { template.workloadName = newValue }
  }

  public var hasNativeTunnel: Bool {
    get { sharedTemplate.value.hasNativeTunnel }
    set { template.hasNativeTunnel = newValue }
  }

  public var authorizationPolicies: [String] {
    get { sharedTemplate.value.authorizationPolicies }
    set { template.authorizationPolicies = newValue }
  }

  public var clusterID: String {
    get { sharedTemplate.value.clusterID }
    set { template.clusterID = newValue }
  }

  public var hostname: String {
    get { sharedTemplate.value.hostname }
    set { template.hostname = newValue }
  }

  public var services: [NamespacedHostname: [UInt16: UInt16]] {
    get { sharedTemplate.value.services }
    set { template.services = newValue }
  }

  public var applicationTunnel: Workload.ApplicationTunnel? {
    get { sharedTemplate.value.applicationTunnel }
    set { template.applicationTunnel = newValue }
  }

  public var networkMode: Workload.NetworkMode {
    get { sharedTemplate.value.networkMode }
    set { template.networkMode = newValue }
  }

  public var capacity: UInt32 {
    get { sharedTemplate.value.capacity }
    set { template.capacity = newValue }
  }
}
