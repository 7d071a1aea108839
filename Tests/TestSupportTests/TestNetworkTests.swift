import Foundation
import Linux
import TestSupport
import Testing
import Vocabulary

@Suite("A test network", .requires(.root, .command("ip")), .timeLimit(.minutes(1)))
struct TestNetworkTests {
  @Test("lets pods of two nodes reach each other with their own addresses", arguments: IPAddress.Family.allCases)
  func podsAcrossNodes(family: IPAddress.Family) throws {
    try TestNetwork.with { network in
      let client = try network.node("left").pod("client")
      let server = try network.node("right").pod("server")
      let echo = try TCPServer(in: server, port: 8080, .echo)
      defer { echo.stop() }
      let connection = try TCPClient(in: client).connect(to: SocketAddress(server.address(family), 8080))
      #expect(try connection.exchange("hello") == "hello")
      #expect(echo.peers.map(\.ip) == [client.address(family)])
    }
  }

  @Test("lets pods of one node, and the node itself, reach a pod")
  func podsOnOneNode() throws {
    try TestNetwork.with { network in
      let node = try network.node("only")
      let pods = (try node.pod("one"), try node.pod("two"))
      let server = try TCPServer(in: pods.1, .greet("hi"))
      defer { server.stop() }
      for place in [pods.0, pods.1, node] as [any NamespaceHolder] {
        let connection = try TCPClient(in: place.place).connect(to: SocketAddress(pods.1.ipv4, server.port))
        #expect(try connection.receive(2) == Array("hi".utf8))
      }
    }
  }

  @Test("is gone afterwards, with its processes, also when the test throws")
  func tearDown() throws {
    struct Failure: Error {}
    var path = ""
    var process: RunningProcess?
    #expect(throws: Failure.self) {
      try TestNetwork.with { network in
        let place = try network.namespace("alone")
        path = place.path
        process = try place.spawn(["sh", "-c", "sleep 100 & echo ready; wait"])
        #expect(process?.waitForLine(containing: "ready") != nil)
        #expect(FileManager.default.fileExists(atPath: path))
        throw Failure()
      }
    }
    #expect(!FileManager.default.fileExists(atPath: path))
    #expect(process?.isRunning == false)
  }

  @Test("runs commands inside its namespaces")
  func commands() throws {
    try TestNetwork.with { network in
      let place = try network.namespace("alone")
      #expect(try place.mustRun(["readlink", "/proc/self/ns/net"]) == "\(place.namespace.identity)\n")
      #expect(try place.run(["sh", "-c", "cat; echo oops >&2; exit 3"], input: "in").status == 3)
      #expect(throws: CommandError.self) { try place.run(["sleep", "100"], timeout: .milliseconds(50)) }
    }
  }
}
