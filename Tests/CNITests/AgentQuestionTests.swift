import Testing

@testable import CNI

@Suite("Between the plugin and the agent")
struct AgentQuestionTests {
  @Test("a question arrives as it was asked")
  func roundTrip() throws {
    let question = AgentQuestion(
      podNamespace: "shop", podName: "web", podUID: "u", containerID: "c", networkNamespace: "/run/netns/x",
      addresses: ["10.0.0.1", "fd00::1"], timeout: 30_000)
    #expect(try AgentQuestion(body: question.body) == question)
    let least = AgentQuestion(podNamespace: "shop", podName: "web")
    #expect(try AgentQuestion(body: least.body) == least)
  }

  @Test("the question of Istio's plugin is understood, whatever the case of its keys")
  func istio() throws {
    let body = #"""
      {"Netns":"/var/run/netns/cni-1234","PodName":"p","podnamespace":"ns",
       "IPs":[{"Interface":0,"Address":{"IP":"10.0.0.5","Mask":"////AA=="},"Gateway":"10.0.0.1"}]}
      """#
    let question = try AgentQuestion(body: Array(body.utf8))
    #expect(
      question
        == AgentQuestion(
          podNamespace: "ns", podName: "p", networkNamespace: "/var/run/netns/cni-1234", addresses: ["10.0.0.5"]))
    #expect(
      try AgentQuestion(body: Array(#"{"Netns":"","PodName":"p","PodNamespace":"n","IPs":null}"#.utf8)).addresses == [])
  }

  @Test(
    "questions that make no sense are refused",
    arguments: [
      "", "[]", "{}", #"{"PodName":"p"}"#, #"{"PodName":1,"PodNamespace":"n"}"#,
      #"{"PodName":"p","PodNamespace":"n","Netns":"relative"}"#,
      #"{"PodName":"p","PodNamespace":"n","Netns":"/a/../b"}"#,
      #"{"PodName":"p","PodNamespace":"n","Netns":"/a\u0000b"}"#, #"{"PodName":"p","PodNamespace":"n","IPs":{}}"#,
      #"{"PodName":"p","PodNamespace":"n","IPs":[{}]}"#,
      #"{"PodName":"p","PodNamespace":"n","IPs":[{"Address":{"IP":1}}]}"#,
    ])
  func refused(body: String) {
    #expect(throws: AgentQuestionError.self) { try AgentQuestion(body: Array(body.utf8)) }
  }

  @Test(
    "an answer arrives as it was given",
    arguments: [
      AgentAnswer.captured, .notInMesh(reason: "no label"), .refused(code: "X", message: "m"),
    ])
  func answers(answer: AgentAnswer) {
    #expect(AgentAnswer(status: answer.status, body: answer.body) == answer)
  }

  @Test(
    "nothing but an unmistakable yes lets a pod start",
    arguments: [
      (200, ""), (200, "{}"), (200, #"{"captured":"true"}"#), (204, #"{"captured":true}"#),
      (500, #"{"captured":true}"#),
      (404, "404 page not found"), (200, "<html>"),
    ])
  func doubtful(status: Int, body: String) {
    guard case .refused = AgentAnswer(status: status, body: Array(body.utf8)) else {
      Issue.record("\(status) \(body) was taken for a yes")
      return
    }
  }

  @Test(
    "HTTP answers are read whole or not at all",
    arguments: [
      ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab", HTTPExchange.Answer(status: 200, body: [97, 98])),
      ("HTTP/1.0 500 No\r\n\r\nab", HTTPExchange.Answer(status: 500, body: [97, 98])),
      ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", HTTPExchange.Answer(status: 200, body: [97])),
      ("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", nil), ("HTTP/1.1 200 OK\r\n", nil), ("", nil),
      ("HTTP/1.1 999 OK\r\n\r\n", nil), ("SSH-2.0\r\n\r\n", nil),
      ("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n", nil),
      ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", nil), ("HTTP/1.1 200 OK\r\nx\r\n\r\n", nil),
    ])
  func exchange(text: String, answer: HTTPExchange.Answer?) {
    #expect(HTTPExchange.answer(Array(text.utf8)) == answer)
  }
}
