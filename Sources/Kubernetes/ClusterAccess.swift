import Glibc
import Linux
import TLS
import Vocabulary

/// How to reach one API server, whom to trust there, and what to show it.
public struct ClusterAccess: Hashable, Sendable {
  /// Certificates or a key: in a file, which is read anew for each connection, or as they are.
  public enum Material: Hashable, Sendable {
    case file(String)
    case pem([UInt8])
  }

  /// A bearer token: in a file, which is read anew for each request, or as it is.
  public enum Token: Hashable, Sendable {
    case file(String)
    case literal(String)
  }

  public var server: ServerAddress
  /// A name that the server's certificate must be for, instead of the address's host.
  public var serverName: ServerName?
  /// Nil: what the operating system trusts.
  public var roots: Material?
  public var token: Token?
  public var clientCertificate: Material?
  public var clientKey: Material?

  public init(
    server: ServerAddress, serverName: ServerName? = nil, roots: Material? = nil, token: Token? = nil,
    clientCertificate: Material? = nil, clientKey: Material? = nil
  ) {
    self.server = server
    self.serverName = serverName
    self.roots = roots
    self.token = token
    self.clientCertificate = clientCertificate
    self.clientKey = clientKey
  }

  /// Where Kubernetes mounts what a pod needs.
  public static let serviceAccountDirectory = "/var/run/secrets/kubernetes.io/serviceaccount"

  /// Whether this process is told of an API server as those in pods are.
  public static func isInCluster(_ environment: [String: String]) -> Bool {
    !(environment["KUBERNETES_SERVICE_HOST"] ?? "").isEmpty
  }

  /// From within a pod: the address of the environment, the token and the roots of the service account. Throws
  /// ``KubernetesError/configuration(subject:reason:)``.
  public static func inCluster(
    _ environment: [String: String], serviceAccount directory: String = serviceAccountDirectory
  ) throws(KubernetesError) -> ClusterAccess {
    guard let text = environment["KUBERNETES_SERVICE_HOST"], let host = ServerName(text) else {
      throw .configuration(subject: "KUBERNETES_SERVICE_HOST", reason: "it names no host")
    }
    let portText = environment["KUBERNETES_SERVICE_PORT"] ?? "443"
    guard let port = UInt16(portText), port > 0 else {
      throw .configuration(subject: "KUBERNETES_SERVICE_PORT", reason: "`\(portText.prefix(20))` is no port")
    }
    return ClusterAccess(
      server: ServerAddress(host: host, port: port), roots: .file("\(directory)/ca.crt"),
      token: .file("\(directory)/token"))
  }

  // MARK: What a connection needs

  /// A TLS context of what the files say now. Throws ``KubernetesError/credentials(subject:reason:)``.
  func trust() throws(KubernetesError) -> ServerTrustContext {
    do throws(TLSError) {
      var client: ServerTrustContext.ClientCertificate?
      if let clientCertificate, let clientKey {
        let chain = try Certificate.parse(pem: try Self.bytes(clientCertificate), subject: "client certificate")
        let key = try PrivateKey(pem: try Self.bytes(clientKey), subject: "client key")
        client = ServerTrustContext.ClientCertificate(chain: chain, privateKey: key)
      }
      guard let roots else { return try ServerTrustContext(roots: .system, client: client) }
      let certificates = try Certificate.parse(pem: try Self.bytes(roots), subject: "certificate authority")
      return try ServerTrustContext(roots: .certificates(certificates), client: client)
    } catch {
      throw .credentials(subject: "\(server)", reason: error.summary)
    }
  }

  /// What tells one version of the files from another.
  var signature: [FileSignature?] {
    [roots, clientCertificate, clientKey].map { material in
      if case .file(let path) = material { FileSignature(path: path) } else { nil }
    }
  }

  /// The value of `authorization`, made now. Throws ``KubernetesError/credentials(subject:reason:)``.
  func authorization() throws(KubernetesError) -> String? {
    let text: String
    switch token {
    case nil: return nil
    case .literal(let literal): text = literal
    case .file(let path):
      do throws(SystemError) { text = String(decoding: try SmallFile.read(path, limit: 64 << 10), as: UTF8.self) } catch
      {
        throw .credentials(subject: path, reason: "the token cannot be read: \(error.reason)")
      }
    }
    let token = text.split(whereSeparator: \.isWhitespace).joined(separator: " ")
    guard !token.isEmpty, token.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
      throw .credentials(subject: "token", reason: "it is empty or holds characters that no token has")
    }
    return "Bearer \(token)"
  }

  private static func bytes(_ material: Material) throws(TLSError) -> [UInt8] {
    switch material {
    case .pem(let bytes): return bytes
    case .file(let path):
      do throws(SystemError) { return try SmallFile.read(path) } catch {
        throw .certificateMalformed(path, reason: "it cannot be read: \(error.reason)")
      }
    }
  }
}
