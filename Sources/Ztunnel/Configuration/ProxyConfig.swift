import Vocabulary
import YAML

/// What Istio's `ProxyConfig` says to this proxy (lifecycle.md §11.1): in the variable `PROXY_CONFIG`, and under
/// `defaultConfig` in the mesh configuration file. The variable goes before the file, key by key.
///
/// Keys of other proxies are passed over. `proxyMetadata` may be left out, and its values need no quotes: numbers and
/// booleans are taken as they are written (lifecycle.md limit 17).
struct ProxyConfig: Equatable {
  var discoveryAddress: String?
  var adminPort: UInt16?
  var statsPort: UInt16?
  /// Threads; 0 is one for each CPU.
  var concurrency: UInt16?
  /// Without the prefix `ISTIO_META_`.
  var metadata: [String: String] = [:]

  /// The mesh configuration file, below the working directory as Istio has it.
  static let meshFile = "./etc/istio/config/mesh"
  /// Largest text read, in bytes: more than a ConfigMap holds.
  static let maximumSize = 1 << 20

  /// Reads a text. `key` is where the object is nested. Each problem goes to `report`, and what is right is still taken.
  static func read(_ text: String, under key: String? = nil, report: (String) -> Void) -> ProxyConfig {
    guard let object = object(text, key, report) else { return ProxyConfig() }
    var config = ProxyConfig()
    config.discoveryAddress = object.text("discoveryAddress", report)
    config.adminPort = object.number("proxyAdminPort", in: 1...UInt16.max, report)
    config.statsPort = object.number("statsPort", in: 1...UInt16.max, report)
    config.concurrency = object.number("concurrency", in: 0...UInt16(EnvironmentReader.mostWorkerThreads), report)
    guard let entries = object["proxyMetadata"], !entries.isNothing else { return config }
    guard let mapping = entries.mapping else {
      report("\(entries.mark.place): proxyMetadata must be a mapping of texts")
      return config
    }
    for (key, value) in mapping {
      guard let name = key.scalar, let text = value.scalar else {
        report("\(value.mark.place): proxyMetadata must be a mapping of texts")
        continue
      }
      config.metadata[name.hasPrefix(prefix) ? String(name.dropFirst(prefix.count)) : name] = text
    }
    return config
  }

  /// The object in a text; nil where there is none, and where `report` was told why.
  private static func object(_ text: String, _ key: String?, _ report: (String) -> Void) -> YAMLNode? {
    guard text.utf8.count <= maximumSize else {
      report("is longer than \(maximumSize) bytes")
      return nil
    }
    var node: YAMLNode?
    do throws(YAMLError) { node = try YAMLReader.document(text.utf8) } catch {
      report("is not YAML: \(error.summary)")
      return nil
    }
    for key in [nil, key] {
      if let key { node = node?[key] }
      guard let found = node, !found.isNothing else { return nil }
      guard found.mapping != nil else {
        report("\(found.mark.place): \(key.map { "\($0) " } ?? "")must be a mapping")
        return nil
      }
    }
    return node
  }

  /// This one with what `other` says over it.
  func merging(_ other: ProxyConfig) -> ProxyConfig {
    var merged = self
    merged.discoveryAddress = other.discoveryAddress ?? discoveryAddress
    merged.adminPort = other.adminPort ?? adminPort
    merged.statsPort = other.statsPort ?? statsPort
    merged.concurrency = other.concurrency ?? concurrency
    merged.metadata.merge(other.metadata) { $1 }
    return merged
  }

  private static let prefix = "ISTIO_META_"

  /// An environment in which the metadata stands as the variables that say the same, which go before it.
  func environment(_ environment: [String: String]) -> [String: String] {
    let variables = metadata.map { (Self.prefix + $0.key, $0.value) }
    return environment.merging(variables) { own, _ in own }
  }
}

extension EnvironmentReader {
  /// Reads both sources. `meshFile` is the text of the mesh configuration file, nil where there is none.
  mutating func proxyConfig(meshFile: String?) -> ProxyConfig {
    var config = ProxyConfig()
    var reasons: [(name: String, reason: String)] = []
    if let meshFile {
      config = ProxyConfig.read(meshFile, under: "defaultConfig") { reasons.append((ProxyConfig.meshFile, $0)) }
    }
    if let text = value("PROXY_CONFIG"), !text.isEmpty {
      config = config.merging(ProxyConfig.read(text) { reasons.append(("PROXY_CONFIG", $0)) })
    }
    for (name, reason) in reasons { report(name, reason) }
    return config
  }
}

extension YAMLMark {
  fileprivate var place: String { "line \(line), column \(column)" }
}

extension YAMLNode {
  /// Nothing at all, or the word for it.
  fileprivate var isNothing: Bool { plainScalar.map { ["", "~", "null"].contains($0) } ?? false }

  fileprivate func text(_ key: String, _ report: (String) -> Void) -> String? {
    guard let value = self[key], !value.isNothing else { return nil }
    guard let text = value.scalar else {
      report("\(value.mark.place): \(key) must be text")
      return nil
    }
    return text
  }

  fileprivate func number(_ key: String, in range: ClosedRange<UInt16>, _ report: (String) -> Void) -> UInt16? {
    guard let value = self[key], !value.isNothing else { return nil }
    guard let text = value.scalar, let number = DecimalText.wholeNumber(text[...]).flatMap(UInt16.init(exactly:)),
      range.contains(number)
    else {
      report("\(value.mark.place): \(key) must be a whole number from \(range.lowerBound) to \(range.upperBound)")
      return nil
    }
    return number
  }
}
