import Testing

@testable import Telemetry

@Suite("The log filter")
struct LogFilterTests {
  @Test(
    "gives each target the level of its longest clause",
    arguments: [
      ("info", "access", .info),
      ("debug", "ztunnel::proxy", .debug),
      ("info,access=debug", "access", .debug),
      ("access=debug,info", "access", .debug),
      ("info,access=debug", "dns", .info),
      ("access=debug", "dns", .off),
      ("warn,ztunnel=info,ztunnel::proxy=trace", "ztunnel::proxy::inbound", .trace),
      ("ztunnel::proxy=trace,ztunnel=info", "ztunnel::proxy::inbound", .trace),
      ("warn,ztunnel=info,ztunnel::proxy=trace", "ztunnel::xds", .info),
      ("info,debug", "access", .debug),
      ("access=debug,access=off", "access", .off),
      ("off", "access", .off),
      ("info,access:debug", "access", .debug),
      ("ztunnel::proxy:trace", "ztunnel::proxy", .trace),
      ("critical", "access", .error),
      ("access=warning", "access", .warn),
      (" INFO , access = Trace ,, ", "access", .trace),
    ] as [(String, String, LogThreshold)])
  func threshold(filter: String, target: String, expected: LogThreshold) throws {
    #expect(try LogFilter(filter).threshold(for: target) == expected)
  }

  @Test(
    "refuses what it does not understand",
    arguments: [
      ("", .empty),
      (" , ,", .empty),
      ("access", .unknownLevel(clause: "access")),
      ("verbose", .unknownLevel(clause: "verbose")),
      ("info,access=loud", .unknownLevel(clause: "access=loud")),
      ("access=", .unknownLevel(clause: "access=")),
      ("=debug", .malformedTarget(clause: "=debug")),
      ("ztunnel::debug", .malformedTarget(clause: "ztunnel::debug")),
      ("a[b{c=d}]=debug", .malformedTarget(clause: "a[b{c=d}]=debug")),
      ("a b=debug", .malformedTarget(clause: "a b=debug")),
      (String(repeating: "info,", count: 1000), .tooLong(limit: 4096)),
      ((0..<200).map { "t\($0)=info" }.joined(separator: ","), .tooManyClauses(limit: 128)),
    ] as [(String, LogFilterError)])
  func refusal(filter: String, expected: LogFilterError) {
    #expect(throws: expected) { try LogFilter(filter) }
  }

  @Test("is info when RUST_LOG is absent or blank", arguments: [nil, "", "  "])
  func environmentDefault(value: String?) throws {
    #expect(try LogFilter(environmentValue: value) == .standard)
  }

  @Test("writes itself in a form that parses back", arguments: ["info", "warn,access=debug,dns=off"])
  func roundTrip(text: String) throws {
    let filter = try LogFilter(text)
    #expect(filter.description == text)
    #expect(try LogFilter(filter.description) == filter)
  }
}

@Suite("Log levels")
struct LogLevelsTests {
  @Test("follow the filter while they are held")
  func change() throws {
    let levels = LogLevels(startupFilter: try LogFilter("info,dns=warn"))
    let access = levels.level(for: "access")
    let dns = levels.level(for: "dns")
    #expect((access.threshold, dns.threshold) == (.info, .warn))
    #expect(try levels.append(LogFilter("access=trace")).description == "info,dns=warn,access=trace")
    #expect((access.threshold, dns.threshold) == (.trace, .warn))
    #expect(try levels.append(LogFilter("error")).description == "dns=warn,access=trace,error")
    #expect(levels.level(for: "ztunnel::xds").threshold == .error)
    #expect(try levels.reset(then: LogFilter("dns=off")).description == "info,dns=off")
    #expect((access.threshold, dns.threshold) == (.info, .off))
    #expect(try levels.reset() == levels.startupFilter)
    #expect(levels.knownTargets == ["access", "dns", "ztunnel::xds"])
  }

  @Test("stay as they are when too many clauses pile up")
  func bounded() throws {
    let levels = LogLevels()
    for index in 0..<127 { try levels.append(LogFilter("target\(index)=debug")) }
    #expect(throws: LogFilterError.tooManyClauses(limit: 128)) { try levels.append(LogFilter("one-more=debug")) }
    #expect(levels.filter.clauses.count == 128)
    try levels.append(LogFilter("target5=warn"))
    #expect(levels.level(for: "target5").threshold == .warn)
  }
}
