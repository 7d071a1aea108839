import JSON
import Vocabulary

/// A command of a test that failed.
struct NodeCommandError: Error, CustomStringConvertible {
  let command: [String]
  let errors: String
  var description: String { "kubectl \(command.joined(separator: " ")): \(errors)" }
}

/// A pod as the API shows it.
struct NodePod {
  let name: String
  let namespace: String
  let uid: String
  let serviceAccount: String
  let address: IPAddress?
  let phase: String
  let isReady: Bool
  let restarts: Int
  /// The annotation by which the agent tells how far it is.
  let redirection: String?

  init?(_ object: JSONValue) {
    guard let name = object["metadata"]?["name"]?.string, let namespace = object["metadata"]?["namespace"]?.string,
      let uid = object["metadata"]?["uid"]?.string
    else { return nil }
    self.name = name
    self.namespace = namespace
    self.uid = uid
    serviceAccount = object["spec"]?["serviceAccountName"]?.string ?? "default"
    address = object["status"]?["podIP"]?.string.flatMap { IPAddress($0) }
    phase = object["status"]?["phase"]?.string ?? ""
    let conditions = object["status"]?["conditions"]?.array ?? []
    isReady = conditions.contains { $0["type"]?.string == "Ready" && $0["status"]?.string == "True" }
    restarts = object["status"]?["containerStatuses"]?.array?.first?["restartCount"]?.integer ?? 0
    redirection = object["metadata"]?["annotations"]?["ambient.istio.io/redirection"]?.string
  }

  /// A web server on port 8080 that says its name, with a probe that asks it. Beside it a client that never rests, from
  /// the pod's first moment to its last: it opens a connection to `target` each `pause` seconds.
  static func manifest(
    _ name: String, in namespace: String, labels: [String: String] = [:], annotations: [String: String] = [:],
    serviceAccount: String = "default", target: String = NodeLoad.address, pause: String = "0.3"
  ) -> String {
    let labels = labels.map { "\"\($0.key)\": \"\($0.value)\"" }.joined(separator: ", ")
    let annotations = annotations.map { "\"\($0.key)\": \"\($0.value)\"" }.joined(separator: ", ")
    return """
      apiVersion: v1
      kind: Pod
      metadata: {name: \(name), namespace: \(namespace), labels: {\(labels)}, annotations: {\(annotations)}}
      spec:
        terminationGracePeriodSeconds: 0
        automountServiceAccountToken: false
        serviceAccountName: \(serviceAccount)
        containers:
        - name: web
          image: localhost/busybox:1
          imagePullPolicy: Never
          command:
          - sh
          - -c
          - |
            while :; do timeout 2 wget -q -O /dev/null http://\(target)/ 2>/dev/null; sleep \(pause); done &
            mkdir -p /tmp/w; echo \(name) >/tmp/w/index.html; exec httpd -f -p 8080 -h /tmp/w
          readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1, timeoutSeconds: 5}
      """
  }

  static func namespace(_ name: String, ambient: Bool) -> String {
    let labels = ambient ? "istio.io/dataplane-mode: ambient" : ""
    return """
      apiVersion: v1
      kind: Namespace
      metadata: {name: \(name), labels: {\(labels)}}
      """
  }
}
