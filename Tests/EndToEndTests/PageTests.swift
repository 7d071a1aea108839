import Foundation
import HTTPServer
import Linux
import Mesh
import Telemetry
import TestSupport
import Testing
import Vocabulary

@testable import Ztunnel

/// The page against a server that makes its state up: sizes and names that no test mesh has.
@Suite(
  "The page of a node, in a browser", .requires(.browser, .command("python3")), .serialized, .timeLimit(.minutes(5)))
struct PageTests {
  static let hostile = "<img src=x onerror=document.title='broken'>"

  private static func row(_ index: Int) -> ConnectionView.Row {
    let isPlain = index % 5 == 0
    let name = index == 7 ? hostile : "web-\(index)"
    let source = AccessLogRecord.Peer(
      address: SocketAddress(.v4(0x0a00_0000 | UInt32(index)), 40000), workload: name,
      namespace: "shop",
      identity: isPlain ? nil : SPIFFEIdentity(trustDomain: "cluster.local", namespace: "shop", serviceAccount: "web"))
    let destination = AccessLogRecord.Peer(
      address: SocketAddress(.v4(0x0a01_0001), 15008), workload: "cart", namespace: "shop")
    let snapshot = ConnectionSnapshot(
      id: index,
      record: AccessLogRecord(source: source, destination: destination, service: "cart.shop", direction: .outbound),
      carriage: isPlain ? .tcp : .hbone, plaintext: isPlain ? .unknownDestination : nil, original: nil,
      actual: SocketAddress(.v4(0x0a01_0001), 15008), isEstablished: true, allowedBy: nil,
      bytesSent: UInt64(index) * 1000, bytesReceived: 5, age: .seconds(index))
    var row = ConnectionView.Row(pod: "shop/\(name)", connection: snapshot)
    row.sentRate = UInt64(index)
    return row
  }

  private static func overview(problems: Bool) -> NodeOverview {
    let pods = (0..<3).map { index in
      NodeOverview.Pod(
        uid: "uid-\(index)", namespace: "shop", name: index == 2 ? hostile : "web-\(index)", serviceAccount: "web",
        isUp: !(problems && index == 2),
        workload: Workload(Workload.Record(uid: "c//Pod/shop/web-\(index)")),
        proof: EnrolmentProofView(state: "PROVEN", since: "", lastProven: nil, escapedPackets: 0, deviations: []))
    }
    let policy = AuthorizationPolicy(name: hostile, namespace: "shop", scope: .global, action: .deny, rules: [])
    return NodeOverview(
      version: "test", node: "node-a", now: .now, isReady: true, pending: [], isDraining: false, isConnected: true,
      workloads: 3, services: 1, pods: pods, policies: [.init(source: policy, denied: 12)], deniedByNone: 2,
      failures: 14)
  }

  /// Serves the page and `count` connections to `body`, which gets the address.
  private func serving(_ count: Int, problems: Bool = false, _ body: (String) throws -> Void) async throws {
    let loop = try EventLoop(name: "page-test")
    try loop.start()
    defer {
      loop.stop()
      loop.join()
    }
    let rows = (0..<count).map(Self.row)
    let overview = Self.overview(problems: problems)
    let server = HTTPServer(on: loop) { request in
      switch request.path {
      case "/": NodePage.answer()
      case "/events":
        HTTPResponse(
          headers: ["content-type": "text/event-stream"],
          body: .endless { (writer) async throws(HTTPStreamEnded) in
            while true {
              let state = PageData.state(overview, rows, ConnectionView(request))
              try await writer.write("event: state\ndata: ".utf8)
              try await writer.write(state.line)
              try await writer.write("\n\n".utf8)
              try await writer.flush()
              await loop.sleep(for: .milliseconds(200))
            }
          })
      default: HTTPResponse(status: 404)
      }
    }
    let address = try #require(try server.listen(on: .address(SocketAddress(.loopback(.v4), 0))))
    do { try body("http://\(address)/") } catch {
      await server.stop(within: .seconds(1))
      throw error
    }
    await server.stop(within: .seconds(1))
  }

  private static let updated = "wait:Number(document.body.dataset.updates) >= 3"

  @Test("ten thousand connections are a bounded number of rows, counted in full, and can be searched")
  func manyConnections() async throws {
    try await serving(10_000) { url in
      let found = try BrowserPage(url: url).run([
        Self.updated, "get:rows=document.querySelectorAll('#connection-rows tr').length",
        "get:live=document.getElementById('live').textContent",
        "get:first=document.querySelector('#connection-rows tr').textContent",
        "get:more=document.getElementById('connections-more').textContent",
        "do:document.getElementById('search').value='web-42'; document.getElementById('search').dispatchEvent(new Event('input'))",
        "wait:document.getElementById('connections-count').textContent === '111 of 10,000'",
        "do:document.getElementById('plaintext').click()",
        "wait:document.getElementById('connections-count').textContent === '22 of 10,000'",
        "get:tags=[...new Set([...document.querySelectorAll('#connection-rows .tag')].map(t => t.textContent))].join()",
      ])
      #expect(found["rows"] as? Int == ConnectionView.defaultLimit)
      #expect(found["live"] as? String == "10,000")
      #expect((found["first"] as? String)?.contains("web-9999") == true, "the busiest is first")
      #expect((found["more"] as? String)?.contains("200 busiest of 10,000") == true)
      #expect(found["tags"] as? String == "plaintext")
      #expect(found["complaints"] as? [String] == [])
    }
  }

  @Test("names from outside are text, whatever they look like, and nothing violates the page's own policy")
  func hostileNames() async throws {
    try await serving(20, problems: true) { url in
      let found = try BrowserPage(url: url).run([
        Self.updated, "get:images=document.images.length", "get:title=document.title",
        "get:seen=document.body.innerText.split('onerror').length - 1",
        "get:state=document.getElementById('state').textContent",
        // What a script injected into the page would try.
        "do:(() => { const s = document.createElement('script'); s.textContent = 'window.injected = 1'; document.body.append(s); })()",
        "get:injected=window.injected === undefined",
      ])
      #expect(found["images"] as? Int == 0)
      #expect(found["title"] as? String == "(1) ztunnel · node-a")
      #expect((found["seen"] as? Int ?? 0) >= 4)
      #expect(found["state"] as? String == "1 problem")
      #expect(found["injected"] as? Bool == true)
    }
  }

  @Test(
    "it fits a phone, in light and in dark, with text that can be read and controls that have names",
    arguments: [(390, false), (390, true), (1280, false), (1280, true)])
  func readable(_ width: Int, _ isDark: Bool) async throws {
    // Contrast by WCAG 2.2 (1.4.3), of every element that has text of its own.
    let contrast = """
      (() => { const value = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).map(Number).map((v) => { v /= 255; \
      return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; }; \
      const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; \
      if (!c.endsWith(', 0)') && c !== 'transparent') return c; } return 'rgb(255,255,255)'; }; \
      return [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && [...e.childNodes].some((n) => \
      n.nodeType === 3 && n.textContent.trim())).filter((e) => { const a = value(getComputedStyle(e).color), \
      b = value(ground(e)); return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5; }) \
      .map((e) => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 30)); })()
      """
    try await serving(50, problems: true) { url in
      let found = try BrowserPage(url: url, width: width, height: 844, isDark: isDark).run([
        Self.updated, "get:overflow=document.documentElement.scrollWidth", "get:faint=\(contrast)",
        "get:nameless=[...document.querySelectorAll('input,button,a')].filter(e => !(e.labels && e.labels.length) && !e.textContent.trim()).length",
        "get:scopes=[...document.querySelectorAll('th')].every(e => e.scope === 'col')",
        "get:language=document.documentElement.lang",
        "get:headings=[...document.querySelectorAll('h1')].length",
      ])
      #expect((found["overflow"] as? Int ?? .max) <= width)
      #expect(found["faint"] as? [String] == [])
      #expect(found["nameless"] as? Int == 0)
      #expect(found["scopes"] as? Bool == true)
      #expect(found["language"] as? String == "en")
      #expect(found["headings"] as? Int == 1)
      #expect(found["complaints"] as? [String] == [])
    }
  }

  @Test("it works by keyboard: Tab comes to the way past the header first, and a slash finds")
  func keyboard() async throws {
    try await serving(50) { url in
      let found = try BrowserPage(url: url).run([
        Self.updated, "key:Tab", "get:first=document.activeElement.textContent", "key:/",
        "get:focused=document.activeElement.id", "get:value=document.activeElement.value",
      ])
      #expect(found["first"] as? String == "Skip to the content")
      #expect(found["focused"] as? String == "search")
      #expect(found["value"] as? String == "", "the slash is not typed into it")
    }
  }

  @Test("rows keep their place while somebody points at them")
  func heldRows() async throws {
    try await serving(50) { url in
      let order = "[...document.querySelectorAll('#connection-rows tr')].map(r => r.dataset.key).join()"
      let found = try BrowserPage(url: url).run([
        Self.updated, "get:before=\(order)",
        "do:document.getElementById('connection-rows').append(document.querySelector('#connection-rows tr'))",
        "do:window.moved = \(order)",
        // Focus holds as pointing does.
        "do:(() => { const row = document.querySelector('#connection-rows tr'); row.tabIndex = -1; row.focus(); })()",
        "do:window.since = Number(document.body.dataset.updates)",
        "wait:Number(document.body.dataset.updates) >= window.since + 3", "get:held=\(order) === window.moved",
        "do:document.activeElement.blur()", "do:window.since = Number(document.body.dataset.updates)",
        "wait:Number(document.body.dataset.updates) >= window.since + 3", "get:after=\(order)",
      ])
      #expect(found["held"] as? Bool == true)
      #expect(found["after"] as? String == found["before"] as? String)
    }
  }

  @Test("when the server goes away, the page says so, fades, and counts down to the next try")
  func contactLost() async throws {
    try await serving(3) { url in
      let found = try BrowserPage(url: url).run([
        Self.updated,
        "do:window.EventSource = class extends EventTarget { constructor() { super(); setTimeout(() => this.onerror(), 10); } close() {} }",
        "do:document.getElementById('pause').click()", "get:paused=document.getElementById('state').textContent",
        "do:document.getElementById('pause').click()",
        "wait:document.getElementById('state').textContent.startsWith('no answer; again in')",
        "get:stale=document.body.classList.contains('stale')",
      ])
      #expect(found["paused"] as? String == "paused")
      #expect(found["stale"] as? Bool == true)
    }
  }
}

/// The page of a real proxy with real traffic.
@Suite(
  "The page of a running ztunnel",
  .requires(.root, .command("ip"), .command("iptables-legacy"), .browser, .command("curl")),
  .timeLimit(.minutes(5)))
struct RunningPageTests {
  @Test("shows pods, certificates and a live connection, and explains one")
  func page() async throws {
    try await MeshFixture.with { mesh in
      let client = try await mesh.pod("client", on: mesh.left)
      let server = try await mesh.pod("server", on: mesh.right)
      try mesh.service("echo", vip: "10.96.0.5", target: 8080, [server])
      try mesh.add(MeshPolicy(name: "nobody-9090", action: .deny, matches: ["destinationPorts: [9090]"]))
      let echo = try TCPServer(in: server.pod, port: 8080, .echo)
      defer { echo.stop() }
      let connection = try TCPClient(in: client.pod).connect(
        to: SocketAddress(try #require(IPAddress("10.96.0.5")), 80))
      #expect(try connection.exchange("0123456789") == "0123456789")
      let found = try BrowserPage(url: "http://127.0.0.1:15000/", width: 1280, height: 1000).run(
        [
          "wait:document.querySelectorAll('#connection-rows tr').length === 1",
          "get:workload=document.getElementById('workload-rows').innerText",
          "get:connection=document.getElementById('connection-rows').innerText",
          "get:encrypted=document.getElementById('encrypted').textContent",
          "get:policies=document.getElementById('policy-rows').innerText",
          "do:document.getElementById('from').value='demo/client'",
          "do:document.getElementById('to').value='echo:80'",
          "do:document.querySelector('#question button').click()",
          "wait:document.querySelector('.chain') !== null",
          "get:answer=document.getElementById('answer').innerText",
        ], in: mesh.left.node.place.namespace)
      #expect((found["workload"] as? String)?.contains(client.identity) == true)
      #expect((found["workload"] as? String)?.contains(" h left") == true, "of its certificate")
      #expect((found["connection"] as? String)?.contains("echo.demo.svc.cluster.local") == true)
      #expect(found["encrypted"] as? String == "100 %")
      #expect((found["policies"] as? String)?.contains("demo/nobody-9090") == true)
      #expect((found["answer"] as? String)?.contains("allowed, encrypted") == true)
      #expect((found["answer"] as? String)?.contains(server.identity) == true)
      #expect(found["complaints"] as? [String] == [])
    }
  }

  /// Where `make page-pictures` wants its pictures.
  private static let pictures = ProcessInfo.processInfo.environment["AMBIENT_PAGE_PICTURES"]

  @Test("the documentation's pictures", .enabled(if: pictures != nil, "taken by make page-pictures"))
  func takePictures() async throws {
    let directory = try #require(Self.pictures)
    try await MeshFixture.with { mesh in
      let web = try await mesh.pod("web", on: mesh.left)
      let catalog = try await mesh.pod("catalog", on: mesh.left)
      let cart = try await mesh.pod("cart", on: mesh.left)
      let ledger = try await mesh.pod("ledger", on: mesh.right)
      let legacy = try await mesh.pod("legacy", on: mesh.right, inMesh: false)
      try mesh.service("cart", vip: "10.96.0.5", target: 8080, [cart])
      try mesh.service("ledger", vip: "10.96.0.6", target: 8080, [ledger])
      try mesh.add(MeshPolicy(name: "no-debugging", action: .deny, matches: ["destinationPorts: [9090]"]))
      try mesh.add(
        MeshPolicy(
          name: "lockdown", action: .deny, isDryRun: true,
          matches: [MeshPolicy.from(catalog)]))
      let servers = try [cart, ledger, legacy].map { try TCPServer(in: $0.pod, port: 8080, .echo) }
      defer { servers.forEach { $0.stop() } }
      func address(_ text: String) throws -> SocketAddress { try #require(SocketAddress(text)) }
      var open: [TCPConnection] = []
      for target in ["10.96.0.5:80", "10.96.0.5:80", "10.96.0.6:80"] {
        open.append(try TCPClient(in: web.pod).connect(to: address(target)))
      }
      open.append(try TCPClient(in: catalog.pod).connect(to: address("10.96.0.5:80")))
      open.append(try TCPClient(in: catalog.pod).connect(to: legacy.address(port: 8080)))
      for connection in open { #expect(try connection.exchange("hello") == "hello") }
      for _ in 0..<3 { _ = try TCPClient(in: catalog.pod).connect(to: cart.address(port: 9090)).end() }
      let traffic = Task.detached {
        for round in 0... {
          if Task.isCancelled { return }
          for (index, connection) in open.enumerated() where round % (index + 1) == 0 {
            try? connection.echoPattern(20_000 * (5 - index))
          }
          try? await Task.sleep(for: .milliseconds(20))
        }
      }
      defer { traffic.cancel() }
      let ready = "wait:Number(document.body.dataset.updates) > 25"
      let ask = [
        "do:document.getElementById('from').value='demo/web'", "do:document.getElementById('to').value='ledger:80'",
        "do:document.querySelector('#question button').click()", "wait:document.querySelector('.chain') !== null",
      ]
      for (name, width, height, isDark, steps) in [
        ("page.png", 1180, 1120, false, [ready]), ("page-dark.png", 1180, 760, true, [ready]),
        ("page-phone.png", 390, 844, true, [ready]),
        (
          "page-explain.png", 1180, 660, false,
          [ready] + ask + ["do:document.getElementById('explain').scrollIntoView()"]
        ),
      ] {
        _ = try BrowserPage(url: "http://127.0.0.1:15000/", width: width, height: height, isDark: isDark).run(
          steps + ["shot:\(directory)/\(name)"], in: mesh.left.node.place.namespace)
      }
      traffic.cancel()
      await traffic.value
    }
  }
}
