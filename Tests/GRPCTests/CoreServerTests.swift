import Foundation
import Linux
import TestSupport
import Testing

@testable import GRPC

@Suite("Calls to gRPC's C core", .requires(.grpc), .timeLimit(.minutes(2)))
struct CoreServerTests {
  @Test("a unary call brings its answer")
  func unary() async throws {
    let server = try PythonServer("echo_server.py")
    let outcome = try await withChannel(server.endpoint()) { channel, _ in
      await channel.outcome("/test.Test/Echo", "hello")
    }
    #expect(outcome == GRPCStatus(.ok, "hello"))
  }

  @Test("a status comes with its code and its message, percent-decoded")
  func status() async throws {
    let server = try PythonServer("echo_server.py")
    let outcome = try await withChannel(server.endpoint()) { channel, _ in await channel.outcome("/test.Test/Fail") }
    #expect(outcome == GRPCStatus(.permissionDenied, "no “entry” at 100%\nfor you"))
  }

  @Test("a method that is not there is UNIMPLEMENTED")
  func unknownMethod() async throws {
    let server = try PythonServer("echo_server.py")
    let outcome = try await withChannel(server.endpoint()) { channel, _ in await channel.outcome("/test.Test/None") }
    #expect(outcome.status == .unimplemented)
  }

  @Test("token, cluster, further fields and the deadline reach the server; a renewed token counts at once")
  func metadata() async throws {
    let server = try PythonServer("echo_server.py")
    let token = server.files.directory + "/token"
    try server.files.write("one\n", token)
    let credentials = CallCredentials(
      token: .file(token), clusterID: "west", headers: [.init("x-more", "a b")])
    let answers = try await withChannel(server.endpoint(credentials: credentials)) { channel, _ in
      let first = await channel.outcome("/test.Test/Describe").message
      try server.files.write("  two \n\n", token)
      return [first, await channel.outcome("/test.Test/Describe").message]
    }
    let fields = try answers.map {
      try #require(try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
    }
    #expect(fields.map { $0["authorization"] as? String } == ["Bearer one", "Bearer two"])
    #expect(fields.allSatisfy { $0["clusterid"] as? String == "west" && $0["x-more"] as? String == "a b" })
    #expect(fields.allSatisfy { (1...10).contains($0["left"] as? Double ?? 0) })
  }

  @Test("a call ends at its deadline, and the connection serves the next one")
  func deadline() async throws {
    let server = try PythonServer("echo_server.py")
    let (slow, took, next) = try await withChannel(server.endpoint()) { channel, _ in
      _ = await channel.outcome("/test.Test/Echo")
      let start = ContinuousClock.now
      let slow = await channel.outcome("/test.Test/Sleep", "5", within: .milliseconds(300))
      return (slow, start.duration(to: .now), await channel.outcome("/test.Test/Echo", "still"))
    }
    #expect(slow.status == .deadlineExceeded)
    #expect(took < .seconds(3))
    #expect(next == GRPCStatus(.ok, "still"))
  }

  @Test("a bidirectional stream carries messages both ways until both have ended")
  func bidirectional() async throws {
    let server = try PythonServer("echo_server.py")
    let received = try await withChannel(server.endpoint()) { channel, _ in
      let call = try await channel.call("/test.Test/EchoEach")
      var received: [[UInt8]] = []
      for text in ["a", "", "ccc"] {
        call.send(Array(text.utf8))
        received.append(try #require(try await call.receive()))
      }
      call.finishSending()
      #expect(try await call.receive() == nil)
      return received.map { String(decoding: $0, as: UTF8.self) }
    }
    #expect(received == ["a", "", "ccc"])
  }

  @Test("many messages come in order")
  func serverStream() async throws {
    let server = try PythonServer("echo_server.py")
    let numbers = try await withChannel(server.endpoint()) { channel, _ in
      let call = try await channel.call("/test.Test/Count")
      call.send(Array("2000".utf8))
      call.finishSending()
      var numbers: [Int] = []
      while let message = try await call.receive() {
        numbers.append(Int(String(decoding: message, as: UTF8.self)) ?? -1)
      }
      return numbers
    }
    #expect(numbers == Array(0..<2000))
  }

  @Test("a message of 30 MiB comes whole, in both directions")
  func large() async throws {
    let server = try PythonServer("echo_server.py")
    let size = 30 << 20
    let (down, both) = try await withChannel(server.endpoint()) { channel, _ in
      let down = try await channel.unary("/test.Test/Large", Array("\(size)".utf8), deadline: .now + .seconds(60))
      let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
      let both = try await channel.unary("/test.Test/Echo", bytes, deadline: .now + .seconds(60))
      return (down.count, both == bytes)
    }
    #expect(down == size)
    #expect(both)
  }

  @Test("a message over the cap ends the call with RESOURCE_EXHAUSTED")
  func cap() async throws {
    let server = try PythonServer("echo_server.py")
    var limits = GRPCLimits()
    limits.largestMessage = 1000
    let (fits, over) = try await withChannel(server.endpoint(), limits: limits) { channel, _ in
      (await channel.outcome("/test.Test/Large", "1000"), await channel.outcome("/test.Test/Large", "1001"))
    }
    #expect(fits.status == .ok)
    #expect(over.status == .resourceExhausted)
  }

  @Test("calls at the same time share one connection")
  func concurrent() async throws {
    let server = try PythonServer("echo_server.py")
    let outcomes = try await withChannel(server.endpoint()) { channel, loop in
      var outcomes: [String] = []
      for number in 0..<20 {
        loop.spawn { outcomes.append(await channel.outcome("/test.Test/Echo", "\(number)").message) }
      }
      let end = ContinuousClock.now + .seconds(20)
      while outcomes.count < 20, .now < end { await loop.sleep(for: .milliseconds(5)) }
      return outcomes
    }
    #expect(outcomes.compactMap { Int($0) }.sorted() == Array(0..<20))
  }

  @Test("after GOAWAY the running call goes on, and a new one is not put on that connection")
  func goAway() async throws {
    let server = try PythonServer("echo_server.py")
    let (echoed, new) = try await withChannel(server.endpoint()) { channel, loop in
      let call = try await channel.call("/test.Test/EchoEach")
      call.send(Array("stop".utf8))
      _ = try await call.receive()
      await loop.sleep(for: .milliseconds(500))
      let new = await channel.outcome("/test.Test/Echo", within: .seconds(5))
      call.send(Array("more".utf8))
      let echoed = try await call.receive()
      call.finishSending()
      #expect(try await call.receive() == nil)
      return (echoed, new)
    }
    #expect(echoed == Array("more".utf8))
    #expect(new.status == .unavailable)
  }

  @Test("a server that dies ends the call with UNAVAILABLE, and its successor is found")
  func restart() async throws {
    let server = try PythonServer("echo_server.py")
    let status = try await withChannel(server.endpoint()) { channel, _ in
      let call = try await channel.call("/test.Test/EchoEach")
      call.send([1])
      _ = try await call.receive()
      server.process.kill()
      do throws(GRPCStatus) { _ = try await call.receive() } catch { return error.status }
      return .ok
    }
    #expect(status == .unavailable)
  }

  @Test("a server of another name, or of another root, is refused")
  func verification() async throws {
    let server = try PythonServer("echo_server.py")
    let name = try await withChannel(server.endpoint(name: "other.test")) { channel, _ in
      await channel.outcome("/test.Test/Echo")
    }
    #expect(name.status == .unavailable)
    #expect(name.message.contains("certificate is not for 127.0.0.1 or other.test"))
    var endpoint = try server.endpoint()
    let others = try ServerFiles()
    endpoint.roots = .file(others.root)
    let root = try await withChannel(endpoint) { channel, _ in await channel.outcome("/test.Test/Echo") }
    #expect(root.message.contains("is not trusted"))
  }

  @Test("the DNS name dialled is the one that is verified")
  func dnsName() async throws {
    let server = try PythonServer("echo_server.py", files: ServerFiles(names: ["localhost"]))
    let endpoint = GRPCEndpoint(
      target: GRPCTarget(host: .dns("localhost"), port: server.port), roots: .file(server.files.root))
    let outcome = try await withChannel(endpoint) { channel, _ in await channel.outcome("/test.Test/Echo", "x") }
    #expect(outcome == GRPCStatus(.ok, "x"))
  }

  @Test("roots that are replaced count from the next call on")
  func rootRotation() async throws {
    let server = try PythonServer("echo_server.py")
    let others = try ServerFiles()
    let outcomes = try await withChannel(server.endpoint()) { channel, _ in
      let good = await channel.outcome("/test.Test/Echo")
      let rootText = try String(contentsOfFile: server.files.root, encoding: .utf8)
      try server.files.write(String(contentsOfFile: others.root, encoding: .utf8), server.files.root)
      let bad = await channel.outcome("/test.Test/Echo")
      try server.files.write(rootText, server.files.root)
      return [good.status, bad.status, await channel.outcome("/test.Test/Echo").status]
    }
    #expect(outcomes == [.ok, .unavailable, .ok])
  }
}
