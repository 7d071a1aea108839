import JSON
import Linux
import Redirection

/// What `node-agent rules` prints.
public struct RulesReport: Equatable, Sendable {
  /// What to look at.
  public enum Question: Sendable {
    /// What is in the namespace now.
    case current
    /// What enrolment would make of it.
    case planned(RedirectionSettings)
    /// How the two differ.
    case deviations(RedirectionSettings)
  }

  public let text: String
  /// False when the namespace deviates.
  public let isAsWanted: Bool

  /// What `text` lists are differences, not rules.
  let isComparison: Bool

  init(text: String, isAsWanted: Bool = true, isComparison: Bool = false) {
    self.text = text
    self.isAsWanted = isAsWanted
    self.isComparison = isComparison
  }

  /// Throws `NetworkNamespaceError` or `RedirectionError`. Changes nothing.
  public static func answer(_ question: Question, in path: String) throws -> RulesReport {
    _ = NetworkNamespace.home
    let redirector = Redirector()
    switch question {
    case .current: return RulesReport(text: try redirector.current(in: NetworkNamespace(path: path)))
    case .planned(let settings):
      _ = try NetworkNamespace(path: path)
      return RulesReport(text: Redirector.listing(settings))
    case .deviations(let settings):
      let deviations = try redirector.check(settings, in: NetworkNamespace(path: path))
      guard !deviations.isEmpty else { return RulesReport(text: "as wanted\n", isComparison: true) }
      return RulesReport(text: deviations.map { "\($0)\n" }.joined(), isAsWanted: false, isComparison: true)
    }
  }

  /// For programs: the differences, or by family the tables with their lines, and the routing.
  public var json: JSONValue {
    var object = JSONObject([.init(key: "asWanted", value: .bool(isAsWanted))])
    let lines = text.split(separator: "\n").map(String.init)
    if isComparison {
      object["deviations"] = .strings(isAsWanted ? [] : lines)
    } else {
      object["families"] = .array(Self.families(lines))
    }
    return .object(object)
  }

  /// The listing's own structure: a heading for each family, `*` before a table's name, remarks about routing.
  private static func families(_ lines: [String]) -> [JSONValue] {
    struct Table {
      var name: String
      var lines: [String] = []
      var json: JSONValue {
        .object(JSONObject([.init(key: "name", value: .string(name)), .init(key: "lines", value: .strings(lines))]))
      }
    }
    struct Family {
      var name: String
      var tables: [Table] = []
      var routing: [String] = []
      var json: JSONValue {
        .object(
          JSONObject([
            .init(key: "family", value: .string(name)), .init(key: "tables", value: .array(tables.map(\.json))),
            .init(key: "routing", value: .strings(routing)),
          ]))
      }
    }
    var families: [Family] = []
    for line in lines {
      if line.hasPrefix("# IP") {
        families.append(Family(name: String(line.dropFirst(2))))
        continue
      }
      guard var family = families.popLast() else { continue }
      if line.hasPrefix("# ") {
        family.routing.append(String(line.dropFirst(2)))
      } else if line.hasPrefix("*") {
        family.tables.append(Table(name: String(line.dropFirst())))
      } else if line != "COMMIT", !family.tables.isEmpty {
        family.tables[family.tables.count - 1].lines.append(line)
      }
      families.append(family)
    }
    return families.map(\.json)
  }
}
