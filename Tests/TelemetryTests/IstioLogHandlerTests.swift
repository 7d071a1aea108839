import Logging
import Testing
import Vocabulary

@testable import Telemetry

@Suite("The log handler")
struct IstioLogHandlerTests {
  /// The line without its time, which is the wall clock's.
  private func plainLine(target: String = "ztunnel::proxy", _ log: (Logger) -> Void) throws -> String {
    let output = Capture()
    let pipeline = try output.pipeline(filter: "trace")
    log(pipeline.logger(for: target))
    let line = try #require(output.lines(of: pipeline).first)
    let time = line.prefix { $0 != "\t" }
    #expect(time.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z/) != nil)
    return String(line.dropFirst(time.count + 1))
  }

  private func jsonLine(target: String = "ztunnel::proxy", _ log: (Logger) -> Void) throws -> String {
    let output = Capture()
    let pipeline = try output.pipeline(filter: "trace", format: .json)
    log(pipeline.logger(for: target))
    return try #require(output.lines(of: pipeline).first).replacing(/"time":"[^"]*"/, with: #""time":"T""#)
  }

  @Test(
    "maps levels to Istio's words",
    arguments: [
      (.trace, "trace"), (.debug, "debug"), (.info, "info"), (.notice, "info"), (.warning, "warn"),
      (.error, "error"), (.critical, "error"),
    ] as [(Logger.Level, String)])
  func levelWords(level: Logger.Level, word: String) throws {
    #expect(try plainLine { $0.log(level: level, "m") } == "\(word)\tproxy\tm")
  }

  @Test("quotes strings and leaves numbers, booleans and addresses bare")
  func plainFields() throws {
    let address = try #require(SocketAddress("[::1]:80"))
    let line = try plainLine { log in
      log.info(
        "listening",
        metadata: [
          "address": .stringConvertible(address), "count": .stringConvertible(3), "ip": .stringConvertible(address.ip),
          "large": .stringConvertible(UInt64.max), "name": "a \"b\"", "on": .stringConvertible(true),
          "parts": .array(["x", .stringConvertible(1)]), "ratio": .stringConvertible(0.5),
        ])
    }
    #expect(
      line == "info\tproxy\tlistening\taddress=[::1]:80 count=3 ip=::1 large=18446744073709551615 "
        + #"name="a \"b\"" on=true parts=["x", 1] ratio=0.5"#)
  }

  @Test("keeps types in JSON, and the full scope")
  func jsonFields() throws {
    let address = try #require(SocketAddress("10.0.0.1:80"))
    let line = try jsonLine { log in
      log.warning(
        "m",
        metadata: [
          "address": .stringConvertible(address), "count": .stringConvertible(UInt8(3)), "name": "n\n",
          "nan": .stringConvertible(Double.nan), "nested": .dictionary(["b": "1", "a": .stringConvertible(false)]),
        ])
    }
    #expect(
      line == #"{"level":"warn","time":"T","scope":"ztunnel::proxy","message":"m","address":"10.0.0.1:80","#
        + #""count":3,"name":"n\n","nan":"nan","nested":{"a":false,"b":"1"}}"#)
  }

  @Test("has no message column without a message and no field column without fields")
  func absentColumns() throws {
    #expect(try plainLine(target: "dns") { $0.debug("", metadata: ["query": "A"]) } == #"debug"# + "\tdns\tquery=\"A\"")
    #expect(try plainLine(target: "dns") { $0.debug("m") } == "debug\tdns\tm")
    #expect(
      try jsonLine(target: "dns") { $0.debug("", metadata: ["query": "A"]) }
        == #"{"level":"debug","time":"T","scope":"dns","query":"A"}"#)
  }

  @Test("names the enclosing spans, outermost first")
  func spans() throws {
    let log: (Logger) -> Void = { log in
      log.entering(LogSpan("proxy", ["wl": "shop/web"])).entering(
        LogSpan("inbound", ["id": "1f", "port": .integer(1)])
      )
      .info("m", metadata: ["k": "v"])
    }
    #expect(
      try plainLine(target: "ztunnel::proxy::inbound", log)
        == #"info"# + "\tproxy::inbound:proxy{wl=\"shop/web\"}:inbound{id=\"1f\" port=1}\tm\tk=\"v\"")
    #expect(
      try jsonLine(target: "ztunnel::proxy::inbound", log)
        == #"{"level":"info","time":"T","scope":"ztunnel::proxy::inbound","message":"m","k":"v","#
        + #""proxy":{"wl":"shop/web"},"inbound":{"id":"1f","port":1}}"#)
  }

  @Test("keeps a message with line breaks on one line")
  func multilineMessage() throws {
    #expect(try plainLine { $0.info("a\nb\t\"c\"") } == "info\tproxy\ta\\nb\\t\"c\"")
  }

  @Test("adds code and remedy of the project's own errors")
  func errors() throws {
    let line = try plainLine { $0.error("refused", error: LogFilterError.empty) }
    #expect(
      line.hasPrefix("error\tproxy\trefused\terror=\"the log filter has no clause\" error_code=\"LOG_FILTER_EMPTY\""))
  }

  @Test("follows the filter, even for loggers made before a change")
  func filter() throws {
    let output = Capture()
    let pipeline = try output.pipeline(filter: "info,dns=off")
    let proxy = pipeline.logger(for: "ztunnel::proxy")
    let dns = pipeline.logger(for: "dns")
    proxy.debug("hidden")
    dns.critical("hidden")
    try pipeline.levels.append(LogFilter("ztunnel=debug,dns=error"))
    proxy.debug("one")
    dns.critical("two")
    dns.warning("hidden")
    #expect(output.lines(of: pipeline).map { $0.split(separator: "\t")[3] } == ["one", "two"])
  }

  @Test("writes in detail about the pod that a clause names, and about no other")
  func onePod() throws {
    let output = Capture()
    let pipeline = try output.pipeline(filter: "info")
    let web = pipeline.logger(for: "ztunnel::proxy").following(pipeline.levels.level(ofPod: "shop/web"))
    let cart = pipeline.logger(for: "ztunnel::proxy").following(pipeline.levels.level(ofPod: "shop/cart"))
    web.debug("hidden")
    try pipeline.levels.append(LogFilter("pod/shop/web=debug"))
    #expect(web.logLevel == .debug && cart.logLevel == .info)
    web.debug("one")
    cart.debug("hidden")
    cart.info("two")
    try pipeline.levels.append(LogFilter("ztunnel=off"))
    cart.error("hidden")
    web.debug("three")
    try pipeline.levels.reset()
    web.debug("hidden")
    #expect(output.lines(of: pipeline).map { $0.split(separator: "\t")[3] } == ["one", "two", "three"])
  }

  @Test("a pod's clause holds for those that come later, and is of no account to other targets")
  func laterPod() throws {
    let levels = LogLevels(startupFilter: try LogFilter("warn,pod/shop:trace"))
    #expect(levels.level(ofPod: "shop/web").threshold == .trace)
    #expect(levels.level(ofPod: "bank/web").threshold == .off)
    #expect(levels.level(for: "ztunnel::proxy").threshold == .warn)
  }
}
