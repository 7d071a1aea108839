import GRPC
import Linux
import TLS
import XDS

/// The control plane that describes the mesh.
public struct DiscoveryConfiguration: Hashable, Sendable {
  public let endpoint: GRPCEndpoint
  /// What it is told about this proxy.
  public let node: NodeDescription
}

/// The variables that name a control plane and say how to talk to it (xds.md §1, identity.md §3).
extension EnvironmentReader {
  static let defaultAddress = "https://istiod.istio-system.svc:15012"
  static let defaultRoots = "./var/run/secrets/istio/root-cert.pem"
  static let defaultToken = "./var/run/secrets/tokens/istio-token"

  /// The endpoint of `<prefix>_ADDRESS`, or of the proxy configuration, or in Kubernetes the usual one. Nil where that is set to nothing, and, without
  /// it, where one of the local variables is set or neither of the others says anything.
  mutating func controlPlane(
    _ prefix: String, localVariables: [String], _ proxyConfig: ProxyConfig, _ profile: TLSProfile
  ) -> GRPCEndpoint? {
    let variable = "\(prefix)_ADDRESS"
    guard let text = value(variable) ?? defaultAddress(unless: localVariables, proxyConfig), !text.isEmpty
    else { return nil }
    guard let target = GRPCTarget(text) else {
      report(variable, "must be host:port or https://host:port: a control plane is spoken to over TLS only")
      return nil
    }
    return GRPCEndpoint(
      target: target, roots: roots("\(prefix)_ROOT_CA"), alternativeName: serverName("ALT_\(prefix)_HOSTNAME"),
      credentials: CallCredentials(
        token: token(), clusterID: environment["ISTIO_META_CLUSTER_ID"] ?? environment["CLUSTER_ID"] ?? "Kubernetes",
        headers: headers("\(prefix)_HEADER_")), profile: profile)
  }

  private func defaultAddress(unless localVariables: [String], _ proxyConfig: ProxyConfig) -> String? {
    guard !localVariables.contains(where: isGiven) else { return nil }
    if let address = proxyConfig.discoveryAddress { return address }
    return value("KUBERNETES_SERVICE_HOST") == nil ? nil : Self.defaultAddress
  }

  /// `SYSTEM`, PEM text, or else a path, be the file there or not: it may come later.
  private mutating func roots(_ name: String) -> TrustRoots {
    guard let text = value(name) else { return .file(Self.defaultRoots) }
    if text == "SYSTEM" { return .system }
    if text.contains("-----BEGIN") {
      do throws(TLSError) { _ = try Certificate.parse(pem: text, subject: name) } catch {
        report(name, error.summary)
      }
      return .pem(text)
    }
    return path(name, "a path of PEM certificates, PEM text or SYSTEM").map(TrustRoots.file)
      ?? .file(Self.defaultRoots)
  }

  private mutating func serverName(_ name: String) -> ServerName? {
    guard let text = nonEmpty(name, "a DNS name") else { return nil }
    guard let serverName = ServerName(text) else {
      report(name, "must be a DNS name")
      return nil
    }
    return serverName
  }

  /// A path where a file is or could be; anything else is the token itself.
  private func token() -> CallCredentials.Token {
    guard let text = value("AUTH_TOKEN"), !text.isEmpty else { return .optionalFile(Self.defaultToken) }
    // No token holds a slash: RFC 7519 has its parts in the URL-safe alphabet.
    return text.contains("/") || FileSignature(path: text) != nil ? .file(text) : .literal(text)
  }

  private mutating func headers(_ prefix: String) -> [CallCredentials.Header] {
    var headers: [CallCredentials.Header] = []
    for (name, value) in environment.sorted(by: { $0.key < $1.key }) where name.hasPrefix(prefix) {
      let header = CallCredentials.Header(name.dropFirst(prefix.count).lowercased(), value)
      if header.isLegal {
        headers.append(header)
      } else {
        report(name, "must name a header that gRPC lets applications send, and hold printable ASCII")
      }
    }
    return headers
  }
}
