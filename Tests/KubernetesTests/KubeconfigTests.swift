import TLS
import Testing
import Vocabulary

@testable import Kubernetes

@Suite("Kubeconfig files and the environment of pods")
struct KubeconfigTests {
  private static func file(
    cluster: String = "", user: String = "token: secret", server: String = "https://10.0.0.1:6443"
  )
    -> String
  {
    """
    apiVersion: v1
    kind: Config
    current-context: c
    clusters: [{name: k, cluster: {server: "\(server)"\(cluster.isEmpty ? "" : ", \(cluster)")}}]
    users: [{name: u, user: {\(user)}}]
    contexts: [{name: c, context: {cluster: k, user: u}}]
    """
  }

  private static func parse(_ text: String) throws(KubernetesError) -> ClusterAccess {
    try Kubeconfig.parse(Array(text.utf8), path: "/etc/k/config")
  }

  @Test("a token and inline roots")
  func token() throws {
    let access = try Self.parse(Self.file(cluster: "certificate-authority-data: aGVsbG8="))
    #expect(access.server.authority == "10.0.0.1:6443")
    #expect(access.token == .literal("secret"))
    #expect(access.roots == .pem(Array("hello".utf8)))
  }

  @Test("files are named relative to the kubeconfig, and a token file wins over a token")
  func files() throws {
    let access = try Self.parse(
      Self.file(
        cluster: "certificate-authority: ca.crt, tls-server-name: kubernetes",
        user: "client-certificate: c.crt, client-key: /abs/c.key, token: x, tokenFile: t"))
    #expect(access.roots == .file("/etc/k/ca.crt"))
    #expect(access.clientCertificate == .file("/etc/k/c.crt"))
    #expect(access.clientKey == .file("/abs/c.key"))
    #expect(access.token == .file("/etc/k/t"))
    #expect(access.serverName == .dns("kubernetes"))
  }

  @Test(
    "what is not supported or makes no sense is refused by name",
    arguments: [
      (file(cluster: "insecure-skip-tls-verify: true"), "insecure-skip-tls-verify"),
      (file(user: "exec: {command: gcloud}"), "exec"),
      (file(user: "username: a, password: b"), "username"),
      (file(user: "client-certificate: c.crt"), "without its key"),
      (file(cluster: "certificate-authority-data: '***'"), "base64"),
      (file(server: "http://10.0.0.1"), "https://host:port"),
      (file(server: "https://10.0.0.1:99999"), "https://host:port"),
      (file(server: "https://10.0.0.1:+443"), "https://host:port"),
      (file(server: "https://a b/"), "https://host:port"),
      ("current-context: x", "no context `x`"),
      ("{}", "current-context"),
      ("[1, 2]", "no mapping"),
      ("", "no mapping"),
      ("a: [", "line"),
    ])
  func refused(text: String, words: String) {
    do throws(KubernetesError) {
      _ = try Self.parse(text)
      Issue.record("taken: \(text)")
    } catch {
      #expect(error.code == "KUBERNETES_CONFIGURATION")
      #expect(error.summary.contains(words), "\(error.summary)")
      #expect(error.summary.contains("/etc/k/config"))
    }
  }

  @Test("a false insecure-skip-tls-verify is no reason to refuse")
  func explicitlyVerified() throws {
    #expect(try Self.parse(Self.file(cluster: "insecure-skip-tls-verify: false")).token != nil)
  }

  @Test("in a pod the environment and the service account say it all")
  func inCluster() throws {
    let access = try ClusterAccess.inCluster(["KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"])
    #expect(access.server.description == "https://[fd00::1]:443")
    #expect(access.token == .file("/var/run/secrets/kubernetes.io/serviceaccount/token"))
    #expect(access.roots == .file("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"))
  }

  @Test(
    "an environment that names no server is refused",
    arguments: [
      [:], ["KUBERNETES_SERVICE_HOST": "a b"], ["KUBERNETES_SERVICE_HOST": "a", "KUBERNETES_SERVICE_PORT": "x"],
    ])
  func noServer(environment: [String: String]) {
    #expect(throws: KubernetesError.self) { try ClusterAccess.inCluster(environment) }
  }

  @Test(
    "base64 as RFC 4648 has it",
    arguments: [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9v\nYmFy", "foobar")])
  func base64(text: String, plain: String) {
    #expect(Base64.decode(text) == Array(plain.utf8))
  }

  @Test("what is no base64 is refused", arguments: ["Z", "Zg", "Zg=", "Z===", "Zg==Zg==", "Z-_=", "====", "Zm9v="])
  func notBase64(text: String) {
    #expect(Base64.decode(text) == nil)
  }
}
