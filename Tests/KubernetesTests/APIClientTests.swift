import Foundation
import HTTP2
import JSON
import KubernetesTestSupport
import Linux
import Testing

@testable import Kubernetes

@Suite("Requests to an API server")
struct APIClientTests {
  /// The error a request ends with; nil for success.
  private static func outcome(_ client: APIClient, _ request: APIRequest, within limit: Duration = .seconds(10)) async
    -> KubernetesError?
  {
    do throws(KubernetesError) {
      try await client.send(request, within: limit)
      return nil
    } catch { return error }
  }

  @Test("a merge patch arrives as it was made")
  func patch() async throws {
    try await withServer { server, loop in
      server.answer = { _ in .json(200, "{}") }
      let client = APIClient(server.access(), loop: loop, buffers: WorkBuffers())
      try await client.send(.mergePatch("/api/v1/namespaces/shop/pods/a/status", ["metadata": ["uid": "u"]]))
      let request = try #require(server.requests.first)
      #expect(request.method == "PATCH")
      #expect(request.path == "/api/v1/namespaces/shop/pods/a/status")
      #expect(request.body.text == "{\"metadata\":{\"uid\":\"u\"}}")
      client.close()
    }
  }

  @Test("a token file is read anew for each request")
  func tokenFile() async throws {
    try await withServer { server, loop in
      let file = NSTemporaryDirectory() + "/token-" + UUID().uuidString
      defer { unlink(file) }
      server.answer = { _ in .json(200, "{}") }
      let client = APIClient(server.access(token: .file(file)), loop: loop, buffers: WorkBuffers())
      let missing = await Self.outcome(client, APIRequest(.get, "/x"))
      #expect(missing?.code == "KUBERNETES_CREDENTIALS")
      for token in ["one", "two"] {
        try "\(token)\n".write(toFile: file, atomically: true, encoding: .utf8)
        try await client.send(APIRequest(.get, "/x"))
      }
      #expect(server.requests.map(\.authorization) == ["Bearer one", "Bearer two"])
      client.close()
    }
  }

  @Test("a server that is not who it should be is refused")
  func wrongName() async throws {
    try await withServer { server, loop in
      var access = server.access()
      access.serverName = nil
      let client = APIClient(access, loop: loop, buffers: WorkBuffers())
      let error = await Self.outcome(client, APIRequest(.get, "/x"))
      #expect(error?.code == "KUBERNETES_UNREACHABLE")
      #expect(error?.summary.contains("is not for 127.0.0.1") == true)
      client.close()
    }
  }

  @Test("a server that does not answer has a deadline, and the next request goes on")
  func silence() async throws {
    try await withServer { server, loop in
      server.answer = { $0.path == "/silent" ? .silence : .json(200, "{}") }
      let client = APIClient(server.access(), loop: loop, buffers: WorkBuffers())
      let error = await Self.outcome(client, APIRequest(.get, "/silent"), within: .milliseconds(200))
      #expect(error == .timedOut(request: "GET /silent"))
      #expect(await Self.outcome(client, APIRequest(.get, "/other")) == nil)
      #expect(server.connectionsMade == 1)
      client.close()
    }
  }

  @Test("a connection that breaks under a request is an error of that request")
  func hangUp() async throws {
    try await withServer { server, loop in
      server.answer = { _ in .hangUp }
      let client = APIClient(server.access(), loop: loop, buffers: WorkBuffers())
      #expect(await Self.outcome(client, APIRequest(.get, "/x"))?.code == "KUBERNETES_UNREACHABLE")
      client.close()
    }
  }

  @Test("an answer that is no JSON is an error that names the request")
  func notJSON() async throws {
    try await withServer { server, loop in
      server.answer = { _ in .json(200, "<html>") }
      let client = APIClient(server.access(), loop: loop, buffers: WorkBuffers())
      let error = await Self.outcome(client, APIRequest(.get, "/x"))
      #expect(error?.code == "KUBERNETES_NOT_JSON")
      #expect(error?.summary.contains("GET /x") == true)
      client.close()
    }
  }

  @Test("values of queries are escaped")
  func escaping() {
    let request = APIRequest(.get, "/p", query: [("fieldSelector", "a=b,c!=d"), ("continue", "x/+ y")])
    #expect(request.target == "/p?fieldSelector=a%3Db%2Cc%21%3Dd&continue=x%2F%2B%20y")
  }
}
