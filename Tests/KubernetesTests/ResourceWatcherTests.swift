import HTTP2
import JSON
import KubernetesTestSupport
import Linux
import Testing

@testable import Kubernetes

/// A watcher of pods, and what it told.
private final class Observed {
  var names: Set<String> = []
  var replacements = 0
  var problems: [KubernetesError] = []
  let client: APIClient
  private var watcher: ResourceWatcher<Pod>?

  init(_ server: FakeAPIServer, _ loop: EventLoop, pageSize: Int = 250) {
    client = APIClient(server.access(), loop: loop, buffers: WorkBuffers())
    watcher = ResourceWatcher<Pod>(client, fieldSelector: "spec.nodeName=n1", pageSize: pageSize) { [unowned self] in
      take($0)
    } report: { [unowned self] in
      problems.append($0)
    }
    watcher?.start()
  }

  private func take(_ change: ObjectChange<Pod>) {
    switch change {
    case .replaced(let pods, let unreadable):
      replacements += 1
      names = Set(pods.map(\.meta.name)).union(names.intersection(unreadable.map(\.name)))
    case .changed(let pod): names.insert(pod.meta.name)
    case .deleted(let pod, _): names.remove(pod.name)
    }
  }

  func stop() {
    watcher?.stop()
    client.close()
  }
}

@Suite("Watching a kind of objects at a server")
struct ResourceWatcherTests {
  @Test("a list and its watch: what is there, what comes, what changes and what goes")
  func listAndWatch() async throws {
    try await withServer { server, loop in
      server.answer = { request in
        request.query["watch"] == nil
          ? .json(200, Texts.list([Texts.pod("a"), Texts.pod("b")], version: "10")) : .watch([], ends: false)
      }
      let observed = Observed(server, loop)
      #expect(await loop.until { !server.watches.isEmpty })
      #expect(observed.names == ["a", "b"])
      server.watches.first?.push(Texts.event("ADDED", Texts.pod("c", version: "11")) + "\n")
      server.watches.first?.push(Texts.event("DELETED", Texts.pod("a", version: "12")) + "\n")
      #expect(await loop.until { observed.names == ["b", "c"] })
      let list = try #require(server.requests.first)
      #expect(list.query["fieldSelector"] == "spec.nodeName=n1")
      #expect(list.query["resourceVersion"] == "0")
      #expect(list.authorization == "Bearer secret")
      #expect(!list.acceptsCompression)
      let watch = try #require(server.requests.last)
      #expect(watch.query["resourceVersion"] == "10")
      #expect(watch.query["allowWatchBookmarks"] == "true")
      #expect(observed.problems == [])
      observed.stop()
    }
  }

  @Test("a list in pages is one list")
  func pages() async throws {
    try await withServer { server, loop in
      server.answer = { request in
        if request.query["watch"] != nil { return .watch([], ends: false) }
        return request.query["continue"] == nil
          ? .json(200, Texts.list([Texts.pod("a")], version: "10", next: "more/+="))
          : .json(200, Texts.list([Texts.pod("b")], version: "10"))
      }
      let observed = Observed(server, loop, pageSize: 1)
      #expect(await loop.until { !server.watches.isEmpty })
      #expect(observed.names == ["a", "b"])
      #expect(observed.replacements == 1)
      #expect(server.requests[0].query["limit"] == "1")
      #expect(server.requests[1].query["continue"] == "more/+=")
      #expect(server.requests[1].query["resourceVersion"] == nil)
      observed.stop()
    }
  }

  @Test("a watch that ends goes on from the newest version, bookmarks included")
  func bookmarks() async throws {
    try await withServer { server, loop in
      var watched = 0
      server.answer = { request in
        guard request.query["watch"] != nil else { return .json(200, Texts.list([], version: "10")) }
        watched += 1
        return watched == 1 ? .watch([Texts.bookmark("77")], ends: true) : .watch([], ends: false)
      }
      let observed = Observed(server, loop)
      #expect(await loop.until { watched == 2 })
      #expect(server.requests.last?.query["resourceVersion"] == "77")
      #expect(server.requests.count { $0.query["watch"] == nil } == 1)
      observed.stop()
    }
  }

  @Test("a version that is too old is followed by a new list; what is gone by then goes", arguments: [true, false])
  func gone(asEvent: Bool) async throws {
    try await withServer { server, loop in
      var lists = 0
      server.answer = { request in
        if request.query["watch"] == nil {
          lists += 1
          return .json(200, Texts.list([Texts.pod(lists == 1 ? "a" : "b")], version: "\(lists)0"))
        }
        guard lists == 1 else { return .watch([], ends: false) }
        return asEvent
          ? .watch([Texts.gone()], ends: false) : .json(410, "{\"reason\":\"Expired\",\"message\":\"old\"}")
      }
      let observed = Observed(server, loop)
      #expect(await loop.until { observed.names == ["b"] })
      #expect(server.requests.last { $0.query["watch"] == nil }?.query["resourceVersion"] == nil)
      #expect(observed.problems.first?.isGone == true)
      observed.stop()
    }
  }

  @Test("a connection that breaks is made anew, and nothing is listed twice")
  func disconnect() async throws {
    try await withServer { server, loop in
      server.answer = { request in
        request.query["watch"] == nil
          ? .json(200, Texts.list([Texts.pod("a")], version: "10"))
          : .watch(
            [Texts.event("ADDED", Texts.pod("w\(request.query["resourceVersion"] ?? "")", version: "20"))], ends: false)
      }
      let observed = Observed(server, loop)
      #expect(await loop.until { observed.names.contains("w10") })
      server.dropConnections()
      #expect(await loop.until { observed.names.contains("w20") })
      #expect(observed.replacements == 1)
      #expect(server.connectionsMade == 2)
      observed.stop()
    }
  }

  @Test("an object that is not as it should be is named, keeps its place, and does no harm to others")
  func malformed() async throws {
    try await withServer { server, loop in
      let broken = Texts.pod("b").replacing("\"nodeName\":\"n1\"", with: "\"nodeName\":17")
      var isBroken = false
      server.answer = { request in
        if request.query["watch"] == nil {
          let list = Texts.list([Texts.pod("a"), isBroken ? broken : Texts.pod("b")], version: "10")
          defer { isBroken = true }
          return .json(200, list)
        }
        return isBroken && server.watches.isEmpty
          ? .watch([Texts.event("MODIFIED", broken), Texts.gone()], ends: false) : .watch([], ends: false)
      }
      let observed = Observed(server, loop)
      #expect(await loop.until { observed.replacements == 2 })
      #expect(observed.names == ["a", "b"])
      let named = observed.problems.filter {
        $0 == .malformed(subject: "pod shop/b", path: "spec.nodeName", expected: "text")
      }
      #expect(named.count == 2)
      observed.stop()
    }
  }

  @Test("lines that are no events end the watch, and everything is listed anew", arguments: ["{not json", "[]", "17"])
  func garbage(line: String) async throws {
    try await withServer { server, loop in
      var lists = 0
      server.answer = { request in
        if request.query["watch"] == nil {
          lists += 1
          return .json(200, Texts.list([], version: "10"))
        }
        return lists == 1 ? .watch([line], ends: false) : .watch([], ends: false)
      }
      let observed = Observed(server, loop)
      #expect(await loop.until { lists == 2 && server.watches.count == 2 })
      #expect(observed.problems.count == 1)
      observed.stop()
    }
  }

  @Test("refusals are told with the server's own words, and tried again")
  func refused() async throws {
    try await withServer { server, loop in
      var tries = 0
      server.answer = { request in
        if request.query["watch"] != nil { return .watch([], ends: false) }
        tries += 1
        return tries < 3
          ? .json(403, "{\"kind\":\"Status\",\"reason\":\"Forbidden\",\"message\":\"pods is forbidden\"}")
          : .json(200, Texts.list([], version: "1"))
      }
      let observed = Observed(server, loop)
      #expect(await loop.until { observed.replacements == 1 })
      #expect(
        observed.problems.first
          == .refused(
            request: "GET /api/v1/pods", status: 403, reason: "Forbidden", message: "pods is forbidden"))
      #expect(observed.problems.first?.remedy?.contains("ClusterRole") == true)
      observed.stop()
    }
  }

  @Test("a slow watch delivers what is there, byte by byte")
  func slow() async throws {
    try await withServer { server, loop in
      server.answer = { request in
        request.query["watch"] == nil ? .json(200, Texts.list([], version: "1")) : .watch([], ends: false)
      }
      let observed = Observed(server, loop)
      #expect(await loop.until { !server.watches.isEmpty })
      let text = Texts.event("ADDED", Texts.pod("a")) + "\n"
      for character in text {
        #expect(observed.names.isEmpty)
        server.watches.first?.push(String(character))
        await loop.sleep(for: .milliseconds(1))
      }
      #expect(await loop.until { observed.names == ["a"] })
      observed.stop()
    }
  }
}
