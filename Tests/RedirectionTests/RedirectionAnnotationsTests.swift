import Testing

@testable import Redirection

@Suite("Pod annotations")
struct RedirectionAnnotationsTests {
  private func applied(
    _ annotations: [String: String], to settings: RedirectionSettings = RedirectionSettings()
  ) -> (settings: RedirectionSettings, ignored: [IgnoredAnnotation]) { settings.applying(annotations: annotations) }

  @Test("override the DNS default in either direction", arguments: [true, false])
  func dns(byDefault: Bool) {
    let settings = RedirectionSettings(dnsCapture: byDefault)
    #expect(applied([:], to: settings).settings.dnsCapture == byDefault)
    #expect(applied(["ambient.istio.io/dns-capture": "true"], to: settings).settings.dnsCapture)
    #expect(!applied(["ambient.istio.io/dns-capture": "false"], to: settings).settings.dnsCapture)
  }

  @Test("take the words Go takes for true", arguments: ["1", "t", "T", "TRUE", "true", "True"])
  func trueWords(word: String) {
    #expect(applied(["ambient.istio.io/bypass-inbound-capture": word]).settings.bypassInboundCapture)
  }

  @Test("that are no boolean count as absent, and are named", arguments: ["", "yes", " true", "tRUE", "2"])
  func unusable(word: String) {
    let result = applied(["ambient.istio.io/bypass-inbound-capture": word])
    #expect(result.settings == RedirectionSettings())
    #expect(result.ignored == [IgnoredAnnotation(annotation: .bypassInboundCapture, value: word)])
  }

  @Test("name interfaces, trimmed, without empty ones")
  func interfaces() {
    let result = applied(["istio.io/reroute-virtual-interfaces": " net1 ,,\tvnet0,"])
    #expect(result.settings.rerouteInterfaces.map(\.text) == ["net1", "vnet0"])
    #expect(result.ignored.isEmpty)
  }

  @Test("with a name no interface can have leave out only that name")
  func badInterface() {
    let result = applied(["istio.io/reroute-virtual-interfaces": "net1,sixteen-letters-,a b"])
    #expect(result.settings.rerouteInterfaces.map(\.text) == ["net1"])
    #expect(result.ignored.map(\.value) == ["sixteen-letters-", "a b"])
    #expect(result.ignored[0].description.contains("no interface can have this name"))
  }
}
