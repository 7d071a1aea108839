import Foundation
import Glibc
import Linux
import Synchronization
import TestSupport
import Testing
import Vocabulary

@testable import HTTPServer

@Suite("HTTP server")
struct HTTPServerTests {
  @Sendable private static func echo(_ request: HTTPRequest) async -> HTTPResponse {
    .text("\(request.method) \(request.path) \(String(decoding: request.body, as: UTF8.self))\n")
  }

  @Test("requests on one connection are answered in order, pipelined or not")
  func pipelining() throws {
    let running = try RunningServer(handler: Self.echo)
    let answer = try running.exchange(
      "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        + "POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nz\r\n0\r\n\r\n\r\nGET /4 HTTP/1.0\r\n\r\n"
    )
    let positions = ["GET /1 \n", "POST /2 abc\n", "POST /3 z\n", "GET /4 \n"].map { answer.range(of: $0) }
    #expect(positions.allSatisfy { $0 != nil })
    let starts = positions.compactMap { $0?.lowerBound }
    #expect(starts == starts.sorted())
    #expect(answer.components(separatedBy: "HTTP/1.1 200 OK\r\n").count == 5)
  }

  @Test("a client that has ended its side still gets its answer")
  func halfClose() throws {
    let running = try RunningServer { request in
      try? await Task.sleep(for: .milliseconds(50))
      return await Self.echo(request)
    }
    #expect(try running.exchange("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").contains("GET /x "))
  }

  @Test("HEAD has the length and no body")
  func head() throws {
    let running = try RunningServer(handler: Self.echo)
    let answer = try running.exchange("HEAD /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    #expect(answer.contains("content-length: 9\r\n"))
    #expect(answer.hasSuffix("\r\n\r\n"))
  }

  @Test("a body is asked for when the client waits for leave")
  func expectContinue() throws {
    let running = try RunningServer(handler: Self.echo)
    let client = try running.client()
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    #expect(try client.receive(until: "\r\n\r\n").hasPrefix("HTTP/1.1 100 Continue\r\n"))
    client.send("ok")
    #expect(try client.receive(until: "POST / ok").contains("200 OK"))
  }

  @Test("a head that comes byte by byte is cut at the deadline, and says so")
  func slowHead() throws {
    var limits = HTTPLimits()
    limits.headTime = .milliseconds(300)
    let running = try RunningServer(limits: limits, handler: Self.echo)
    let client = try running.client()
    client.send("GET / HTTP/1.1\r\n")
    let start = ContinuousClock.now
    while client.send("a: b\r\n"), ContinuousClock.now - start < .seconds(15) { usleep(50_000) }
    #expect(ContinuousClock.now - start < .seconds(15))
    #expect(running.server.counts.refused == 1)
  }

  @Test("a late head is answered 408; a connection on which nothing came is closed without a word")
  func lateHead() throws {
    var limits = HTTPLimits()
    limits.headTime = .milliseconds(200)
    limits.bodyTime = .milliseconds(200)
    let running = try RunningServer(limits: limits, handler: Self.echo)
    let late = try running.client()
    late.send("GET /")
    #expect(try late.receiveAll().hasPrefix("HTTP/1.1 408 "))
    #expect(try running.client().receiveAll() == "")
    let withoutBody = try running.client()
    withoutBody.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nabc")
    #expect(try withoutBody.receiveAll().hasPrefix("HTTP/1.1 408 "))
  }

  @Test(
    "too much is refused by its name",
    arguments: [
      ("GET / HTTP/1.1\r\nHost: a\r\nx: " + String(repeating: "y", count: 20_000) + "\r\n\r\n", 431),
      ("GET /" + String(repeating: "y", count: 200_000), 431),
      ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", 413),
      ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffff0\r\n", 413),
      ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\r\n\r\n", 400),
      ("GET / HTTP/9.1\r\nHost: a\r\n\r\n", 505),
    ])
  func tooMuch(_ text: String, _ status: Int) throws {
    let running = try RunningServer(handler: Self.echo)
    #expect(try running.exchange(text).hasPrefix("HTTP/1.1 \(status) "))
  }

  @Test("a handler may finish on another thread, and holds nobody else up meanwhile")
  func asynchronous() throws {
    let other = try EventLoop(name: "other")
    try other.start()
    defer {
      other.stop()
      other.join()
    }
    let running = try RunningServer { request in
      if request.path == "/fast" { return .text("fast\n") }
      return await withCheckedContinuation { continuation in
        other.spawn {
          await other.sleep(for: .milliseconds(500))
          continuation.resume(returning: .text("slow\n"))
        }
      }
    }
    let slow = try running.client()
    slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(try running.exchange("GET /fast HTTP/1.1\r\nHost: a\r\n\r\n").hasSuffix("fast\n"))
    #expect(try slow.receive(until: "slow\n").hasSuffix("slow\n"))
  }

  @Test("a streamed body arrives whole, and waits for the client instead of growing")
  func streamed() throws {
    let written = Mutex(0)
    let piece = [UInt8](repeating: 65, count: 10_000)
    let running = try RunningServer { _ in
      HTTPResponse(
        body: .stream { (writer) async throws(HTTPStreamEnded) in
          for _ in 0..<3000 {
            try await writer.write(piece)
            written.withLock { $0 += piece.count }
          }
        })
    }
    let client = try running.client()
    client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    let first = try client.receive(until: "AAAA")
    usleep(300_000)
    let ahead = written.withLock { $0 }
    #expect(ahead < 15_000_000)
    var count = first.utf8.count { $0 == 65 }
    var tail: [UInt8] = []
    while let some = try client.receiveSome() {
      count += some.count { $0 == 65 }
      tail = (tail + some).suffix(7)
    }
    #expect(count == 30_000_000)
    #expect(tail == Array("\r\n0\r\n\r\n".utf8))
  }

  @Test("a streamed body for HTTP/1.0 ends with the connection")
  func streamedOldVersion() throws {
    let running = try RunningServer { _ in
      HTTPResponse(body: .stream { (writer) async throws(HTTPStreamEnded) in try await writer.write("abc".utf8) })
    }
    let answer = try running.exchange("GET / HTTP/1.0\r\n\r\n")
    #expect(answer.hasSuffix("\r\n\r\nabc"))
    #expect(!answer.contains("transfer-encoding"))
  }

  @Test("a client that takes nothing of a stream is let go")
  func stalledReader() async throws {
    let ended = Mutex(false)
    var limits = HTTPLimits()
    limits.writeTime = .milliseconds(200)
    let running = try RunningServer(limits: limits) { _ in
      HTTPResponse(
        body: .endless { (writer) async throws(HTTPStreamEnded) in
          defer { ended.withLock { $0 = true } }
          while true { try await writer.write(repeatElement(65, count: 40_000)) }
        })
    }
    let client = try running.client()
    client.shrinkReceiveBuffer()
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(eventually(within: .seconds(20)) { ended.withLock { $0 } })
    withExtendedLifetime(client) {}
  }

  @Test("stopping finishes what is under way, ends what never would, and closes what is idle")
  func stopping() async throws {
    let running = try RunningServer { request in
      if request.path == "/events" {
        return HTTPResponse(
          body: .endless { (writer) async throws(HTTPStreamEnded) in
            while true {
              try await writer.write("data: x\n\n".utf8)
              try await writer.flush()
              try? await Task.sleep(for: .milliseconds(20))
            }
          })
      }
      try? await Task.sleep(for: .milliseconds(400))
      return .text("finished\n")
    }
    let (busy, idle, endless) = (try running.client(), try running.client(), try running.client())
    endless.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
    _ = try endless.receive(until: "data: x")
    busy.send("GET /busy HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(eventually(within: .seconds(10)) { running.server.counts.requests == 2 })
    #expect(eventually(within: .seconds(10)) { running.server.counts.connections == 3 })
    await running.server.stop(within: .seconds(10))
    #expect(try busy.receiveAll().hasSuffix("finished\n"))
    #expect(try idle.receiveAll() == "")
    _ = try endless.receiveAll()
    #expect(throws: (any Error).self) { try running.client() }
  }

  @Test("a thousand idle connections do not keep another from being served")
  func manyConnections() throws {
    var limits = HTTPLimits()
    limits.connections = 100
    limits.headTime = .seconds(60)
    let running = try RunningServer(limits: limits, handler: Self.echo)
    var clients: [RawClient] = []
    for _ in 0..<1000 { clients.append(try running.client()) }
    #expect(try running.exchange("GET /x HTTP/1.1\r\nHost: a\r\n\r\n").contains("GET /x "))
    #expect(eventually(within: .seconds(10)) { running.server.counts.connections <= 100 })
    withExtendedLifetime(clients) {}
  }

  @Test("when all connections are busy, one more is told so")
  func tooManyBusy() throws {
    var limits = HTTPLimits()
    limits.connections = 2
    let running = try RunningServer(limits: limits) { _ in
      try? await Task.sleep(for: .seconds(3))
      return .text("done\n")
    }
    let busy = [try running.client(), try running.client()]
    for client in busy { client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n") }
    #expect(eventually(within: .seconds(10)) { running.server.counts.requests == 2 })
    #expect(try running.client().receiveAll().hasPrefix("HTTP/1.1 503 "))
    #expect(running.server.counts.turnedAway == 1)
  }

  @Test("a unix socket has its mode, knows its peer, replaces a stale file, and goes away")
  func unixSocket() async throws {
    let path = "/tmp/http-\(getpid())-\(UInt32.random(in: 0...UInt32.max)).sock"
    let loop = try EventLoop(name: "http-test")
    try loop.start()
    defer {
      loop.stop()
      loop.join()
    }
    for _ in 0..<2 {
      let server = HTTPServer(on: loop) { .text("\($0.peer)\n\n") }
      try server.listen(on: .unix(path: path, mode: 0o620, users: [getuid()]))
      var status = stat()
      #expect(lstat(path, &status) == 0)
      #expect(status.st_mode & 0o777 == 0o620)
      let client = try RawClient(unix: path)
      client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
      #expect(try client.receive(until: "\n\n").contains("process(id: \(getpid()), user: \(getuid())"))
      await server.stop(within: .seconds(5))
      #expect(lstat(path, &status) == -1)
    }
  }

  @Test("a unix peer of another user is closed unread")
  func foreignUser() throws {
    let path = "/tmp/http-\(getpid())-\(UInt32.random(in: 0...UInt32.max)).sock"
    defer { unlink(path) }
    let loop = try EventLoop(name: "http-test")
    try loop.start()
    defer {
      loop.stop()
      loop.join()
    }
    let server = HTTPServer(on: loop, handler: Self.echo)
    try server.listen(on: .unix(path: path, mode: 0o666, users: [getuid() + 1]))
    let client = try RawClient(unix: path)
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(try client.receiveAll() == "")
    #expect(server.counts.requests == 0)
  }

  @Test("a file that is no socket is left alone")
  func foreignFile() throws {
    let loop = try EventLoop(name: "http-test")
    let server = HTTPServer(on: loop, handler: Self.echo)
    #expect(throws: HTTPServerError.notASocket(path: "/etc/hostname")) {
      try server.listen(on: .unix(path: "/etc/hostname"))
    }
  }

  @Test("an inherited socket is served")
  func inherited() throws {
    let socket = try TCPSocket.make(.v4)
    try TCPSocket.bind(socket.raw, .v4, to: SocketAddress(.loopback(.v4), 0))
    try TCPSocket.listen(socket.raw, backlog: 8)
    let address = try TCPSocket.localAddress(socket.raw)
    let loop = try EventLoop(name: "http-test")
    try loop.start()
    defer {
      loop.stop()
      loop.join()
    }
    let server = HTTPServer(on: loop, handler: Self.echo)
    #expect(try server.listen(on: .inherited(SharedDescriptor(socket))) == address)
    let client = try RawClient(address)
    client.send("GET /inherited HTTP/1.1\r\nHost: a\r\n\r\n")
    #expect(try client.receive(until: "/inherited").contains("200 OK"))
  }
}
