import TLS
import Testing
import Vocabulary

@testable import Identity

/// News from the authority, and restarts.
extension CertificateLedgerTests {
  @Test("news from the authority has everything fetched again at once, held or failed")
  func refresh() throws {
    let mail = SPIFFEIdentity.account("mail")
    var bench = try Bench()
    bench.prefetch(web)
    try bench.issue(web)
    bench.prefetch(mail)
    try bench.refuse(mail)
    #expect(bench.running.isEmpty)
    bench.take(bench.ledger.refresh(now: bench.now))
    #expect(Set(bench.running.keys) == [web, mail])
    #expect(bench.state(web) == .available, "what is held serves on meanwhile")
    #expect(bench.ledger.fetches.succeeded == 1 && bench.ledger.fetches.failed == 1)
    #expect(bench.ledger.statuses(bench.now.wall).map(\.failures) == [1, 0], "sorted: mail, web")
    try bench.issue(web, seconds: 7200)
    #expect(bench.published.last?.notAfter == bench.now.wall.advanced(bySeconds: 7200))
  }

  @Test("an authority that gives an identity to nobody any more takes its certificate back")
  func withdrawn() throws {
    var bench = try Bench()
    bench.prefetch(web)
    try bench.issue(web)
    bench.take(bench.ledger.refresh(now: bench.now))
    try bench.answer(web, .failure(.identityNotGiven(web, given: 2)))
    #expect(bench.withdrawn == [web])
    #expect(bench.state(web) == .unavailable(.identityNotGiven(web, given: 2)))
    bench.pass(2)
    #expect(bench.running[web] != nil, "it may come back")
  }

  @Test("a certificate from before a restart serves at once, and is renewed at half of what is left of its life")
  func restored() throws {
    var bench = try Bench()
    let kept = try bench.issuer.issue(web, from: bench.now.wall.advanced(bySeconds: -3600), seconds: 10800)
    bench.take(bench.ledger.restore(kept, now: bench.now))
    #expect(bench.published.map(\.identity) == [web])
    bench.prefetch(web)
    #expect(bench.running.isEmpty)
    let waiter = bench.request(web)
    #expect(try bench.resumed[waiter]?.get().certificate.leaf == kept.leaf)
    bench.pass(3700)
    #expect(bench.running[web] != nil)
    #expect(bench.ledger.held(bench.now.wall).map(\.leaf) == [kept.leaf])
  }

  @Test(
    "a restored certificate nobody asks for goes; an expired one and one that is older than what is held do not count")
  func restoredInVain() throws {
    var bench = try Bench()
    bench.take(bench.ledger.restore(try bench.issuer.issue(web, from: bench.now.wall, seconds: 86400), now: bench.now))
    bench.pass(3601)
    #expect(bench.withdrawn == [web])
    #expect(bench.ledger.statuses(bench.now.wall).isEmpty)
    let expired = try bench.issuer.issue(web, from: bench.now.wall.advanced(bySeconds: -100), seconds: 50)
    bench.take(bench.ledger.restore(expired, now: bench.now))
    #expect(bench.state(web) == nil)
    bench.prefetch(web)
    try bench.issue(web)
    let held = bench.ledger.held(bench.now.wall).first?.leaf
    bench.take(bench.ledger.restore(try bench.issuer.issue(web, from: bench.now.wall, seconds: 100), now: bench.now))
    #expect(bench.ledger.held(bench.now.wall).first?.leaf == held)
  }
}
