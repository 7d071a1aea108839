import JSON
import Testing

@testable import NodeAgent

@Suite("What became of the agent's DaemonSet")
struct DaemonSetQueryTests {
  private func judge(_ daemonSet: JSONValue, labels: JSONValue = ["zone": "a", "size": "5"])
    -> DepartureDecision.DaemonSet
  {
    DaemonSetQuery.judge(daemonSet, node: ["metadata": ["name": "node1", "labels": labels]])
  }

  private func daemonSet(
    label: JSONValue = "ambient-node-agent", metadata: JSONValue = [:], pod: JSONValue = [:]
  ) -> JSONValue {
    [
      "metadata": metadata,
      "spec": ["template": ["metadata": ["labels": ["app.kubernetes.io/name": label]], "spec": pod]],
    ]
  }

  private func requiring(_ key: String, _ expressions: JSONValue) -> JSONValue {
    [
      "affinity": [
        "nodeAffinity": [
          "requiredDuringSchedulingIgnoredDuringExecution": [
            "nodeSelectorTerms": [.object(.init([.init(key: key, value: expressions)]))]
          ]
        ]
      ]
    ]
  }

  @Test("it will start the next agent here")
  func present() {
    #expect(judge(daemonSet()) == .present(isOurs: true, isBeingDeleted: false, matchesNode: true))
  }

  @Test("it may run Istio's agent under the same name by now")
  func istio() {
    #expect(judge(daemonSet(label: "istio-cni")) == .present(isOurs: false, isBeingDeleted: false, matchesNode: true))
    #expect(judge([:]) == .present(isOurs: false, isBeingDeleted: false, matchesNode: true))
  }

  @Test("it may be on its way out")
  func deleted() {
    let object = daemonSet(metadata: ["deletionTimestamp": "2026-01-01T00:00:00Z"])
    #expect(judge(object) == .present(isOurs: true, isBeingDeleted: true, matchesNode: true))
  }

  @Test(
    "it may want other nodes",
    arguments: [
      ("In zone a", true), ("In zone b", false), ("NotIn zone a", false), ("NotIn other a", true),
      ("Exists zone", true), ("Exists other", false), ("DoesNotExist zone", false), ("Gt size 4", true),
      ("Gt size 5", false), ("Lt size 6", true), ("Lt zone 6", false), ("Unheard zone", true),
    ])
  func affinity(requirement: String, matches: Bool) {
    let words = requirement.split(separator: " ").map(String.init)
    let pod = requiring(
      "matchExpressions",
      [["operator": .string(words[0]), "key": .string(words[1]), "values": .strings(words.dropFirst(2))]])
    #expect(judge(daemonSet(pod: pod)) == .present(isOurs: true, isBeingDeleted: false, matchesNode: matches))
  }

  @Test("nodes are named, too, and selected by labels")
  func namesAndSelectors() {
    let here = requiring("matchFields", [["key": "metadata.name", "operator": "In", "values": ["node1"]]])
    let there = requiring("matchFields", [["key": "metadata.name", "operator": "In", "values": ["node2"]]])
    let selected: JSONValue = ["nodeSelector": ["zone": "a"]]
    let unselected: JSONValue = ["nodeSelector": ["zone": "b"]]
    for (pod, matches) in [(here, true), (there, false), (selected, true), (unselected, false)] {
      #expect(judge(daemonSet(pod: pod)) == .present(isOurs: true, isBeingDeleted: false, matchesNode: matches))
    }
  }
}
