import Foundation
import Linux
import TestSupport
import Testing

/// A page in a real browser, headless.
struct BrowserPage {
  let url: String
  var width = 1280
  var height = 900
  var isDark = false

  static let chromium = Command.path(of: "chromium")

  /// What `Browser/browser.py` says about its steps.
  func run(_ steps: [String], in namespace: NetworkNamespace? = nil) throws -> [String: Any] {
    let chromium = try #require(Self.chromium)
    let script = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "Browser/browser.py").path
    let options = ["--width", "\(width)", "--height", "\(height)", "--limit", "90"] + (isDark ? ["--dark"] : [])
    let result = try Command.run(
      ["python3", script, chromium, url] + options + steps, in: namespace, timeout: .seconds(120))
    #expect(result.succeeded, "\(result.errors)")
    let answer = try? JSONSerialization.jsonObject(with: Data(result.output.utf8)) as? [String: Any]
    return try #require(answer, "\(result.output)\(result.errors)")
  }
}

extension Requirement {
  /// A browser; `make page-test` installs it.
  static var browser: Requirement {
    Requirement(BrowserPage.chromium != nil, otherwise: "needs the command chromium: make page-test")
  }
}
