import Glibc
import Linux
import TLS
import Vocabulary
import YAML

/// Reads kubeconfig files: YAML or JSON that names clusters, users, and contexts which bring the two together.
///
/// Understood are certificates, keys and tokens, inline and in files. What would run a program (`exec`,
/// `auth-provider`), passwords, proxies, and servers that are not verified are refused by name, not skipped.
public enum Kubeconfig {
  static let largest = 1 << 20

  /// Reads the context `context`, else the current one, of the file at `path`. Throws
  /// ``KubernetesError/configuration(subject:reason:)``.
  public static func load(_ path: String, context: String? = nil) throws(KubernetesError) -> ClusterAccess {
    let bytes: [UInt8]
    do throws(SystemError) { bytes = try SmallFile.read(path, limit: largest) } catch {
      throw .configuration(subject: path, reason: "it cannot be read: \(error.reason)")
    }
    return try parse(bytes, path: path, context: context)
  }

  /// The same of bytes at hand. `path` stands in errors, and names in the file are relative to its directory.
  public static func parse(
    _ bytes: [UInt8], path: String, context: String? = nil
  ) throws(KubernetesError) -> ClusterAccess {
    guard bytes.count <= largest else {
      throw .configuration(subject: path, reason: "it is longer than \(largest) bytes")
    }
    let root: YAMLNode?
    do throws(YAMLError) { root = try YAMLReader.document(bytes) } catch {
      throw .configuration(subject: path, reason: error.summary)
    }
    guard let root, root.mapping != nil else { throw .configuration(subject: path, reason: "it is no mapping") }
    return try Document(path: path, root: root).access(context)
  }

  private struct Document {
    let path: String
    let root: YAMLNode

    func access(_ wanted: String?) throws(KubernetesError) -> ClusterAccess {
      guard let name = wanted ?? text(root, "current-context"), !name.isEmpty else {
        throw fail("it names no current-context")
      }
      let context = try entry("contexts", "context", name)
      guard let clusterName = text(context, "cluster") else { throw fail("context \(name) names no cluster") }
      let cluster = try entry("clusters", "cluster", clusterName)
      guard let server = text(cluster, "server").flatMap(ServerAddress.init) else {
        throw fail("cluster \(clusterName) has no server of the form https://host:port")
      }
      try refuse(["insecure-skip-tls-verify", "proxy-url"], in: cluster, of: "cluster \(clusterName)")
      var access = ClusterAccess(server: server)
      if let name = text(cluster, "tls-server-name") {
        guard let serverName = ServerName(name) else { throw fail("tls-server-name of \(clusterName) is no name") }
        access.serverName = serverName
      }
      access.roots = try material(cluster, "certificate-authority")
      guard let userName = text(context, "user"), !userName.isEmpty else { return access }
      let user = try entry("users", "user", userName)
      try refuse(["exec", "auth-provider", "username", "password", "as"], in: user, of: "user \(userName)")
      access.clientCertificate = try material(user, "client-certificate")
      access.clientKey = try material(user, "client-key")
      guard (access.clientCertificate == nil) == (access.clientKey == nil) else {
        throw fail("user \(userName) has a client certificate without its key, or a key without its certificate")
      }
      // A token file wins over a token, as it does for kubectl.
      if let file = text(user, "tokenFile") {
        access.token = .file(resolved(file))
      } else if let token = text(user, "token") {
        access.token = .literal(token)
      }
      return access
    }

    private func entry(_ list: String, _ key: String, _ name: String) throws(KubernetesError) -> YAMLNode {
      let entries = root[list]?.sequence ?? []
      guard let entry = entries.first(where: { text($0, "name") == name })?[key], entry.mapping != nil else {
        throw fail("there is no \(key) `\(name.prefix(80))`")
      }
      return entry
    }

    private func material(_ node: YAMLNode, _ key: String) throws(KubernetesError) -> ClusterAccess.Material? {
      if let data = text(node, "\(key)-data"), !data.isEmpty {
        guard let bytes = Base64.decode(data) else { throw fail("\(key)-data is no base64") }
        return .pem(bytes)
      }
      return text(node, key).map { .file(resolved($0)) }
    }

    private func refuse(_ keys: [String], in node: YAMLNode, of subject: String) throws(KubernetesError) {
      for key in keys {
        guard let value = node[key] else { continue }
        if value.scalar == "false" || value.scalar == "" { continue }
        throw fail("`\(key)` of \(subject) is not supported")
      }
    }

    private func text(_ node: YAMLNode, _ key: String) -> String? { node[key]?.scalar }

    private func resolved(_ file: String) -> String {
      if file.hasPrefix("/") { return file }
      let directory = path.split(separator: "/", omittingEmptySubsequences: false).dropLast().joined(separator: "/")
      return directory.isEmpty && !path.hasPrefix("/") ? file : "\(directory)/\(file)"
    }

    private func fail(_ reason: String) -> KubernetesError { .configuration(subject: path, reason: reason) }
  }
}
