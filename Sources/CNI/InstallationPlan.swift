import JSON

/// What has to be done in a CNI configuration directory so that every new pod passes through our plugin, or none does.
/// A value made of values: nothing is read or written here (enrollment.md §9).
public struct InstallationPlan: Equatable, Sendable {
  /// Where our entry goes.
  public enum Mode: Equatable, Sendable {
    /// Into the configuration that the runtime uses; `file` where the operator named one.
    case chained(file: String?)
    /// Into a file of our own, made from the one that the runtime would use otherwise.
    case owned(file: String)
    /// Into a file that holds nothing else, for multiplexers that name networks themselves (Multus).
    case standalone(file: String)

    public static let defaultOwnedFile = "02-istio-cni.conflist"
    public static let defaultStandaloneFile = "YYY-istio-cni.conf"
  }

  /// A file as it was found.
  public struct File: Equatable, Sendable {
    public let name: String
    public let bytes: [UInt8]

    public init(name: String, bytes: [UInt8]) {
      self.name = name
      self.bytes = bytes
    }
  }

  /// In the order they are to be done. Each leaves the directory in a state that a runtime can use.
  public enum Step: Equatable, Sendable {
    /// Write the file anew, whole; `like` is the file whose permissions it gets, where there is one.
    case write(file: String, bytes: [UInt8], like: String?)
    case rename(from: String, to: String)
    case remove(file: String)
  }

  /// Something in the directory that is not as it should be, and which file it is.
  public struct Problem: Hashable, Sendable {
    public let file: String
    public let reason: String
    /// Nothing captures new pods while it lasts.
    public let isFatal: Bool
  }

  public private(set) var steps: [Step] = []
  public private(set) var problems: [Problem] = []
  /// The file the runtime uses when the steps are done; nil when there is none yet.
  public private(set) var primary: String?

  /// A single plugin's file, kept while a list stands in its place.
  public static let savedSuffix = ".ambient-saved"

  init(steps: [Step] = []) { self.steps = steps }

  // MARK: Installing

  /// What to do so that new pods pass through `entry`.
  public static func install(_ entry: PluginEntry, _ mode: Mode, in files: [File]) -> InstallationPlan {
    var plan = InstallationPlan()
    let valid = plan.valid(files)
    switch mode {
    case .chained(let file): plan.chain(entry, explicit: file, valid)
    case .owned(let file): plan.own(entry, file, valid)
    case .standalone(let file): plan.standAlone(entry, file, files)
    }
    return plan
  }

  private typealias Valid = (file: File, configuration: NetworkConfiguration)

  /// Those a runtime could use, in the order it looks at them.
  private mutating func valid(_ files: [File]) -> [Valid] {
    var valid: [Valid] = []
    for file in files.sorted(by: { Array($0.name.utf8).lexicographicallyPrecedes(Array($1.name.utf8)) }) {
      guard let form = NetworkConfiguration.form(ofFile: file.name) else { continue }
      do throws(NetworkConfigurationError) {
        valid.append((file, try NetworkConfiguration(file.bytes, as: form)))
      } catch { problems.append(Problem(file: file.name, reason: error.reason, isFatal: false)) }
    }
    return valid
  }

  private mutating func chain(_ entry: PluginEntry, explicit: String?, _ valid: [Valid]) {
    let first = valid.first
    var targets: [Valid] = []
    if let explicit {
      let stem = NetworkConfiguration.listName(ofFile: explicit)
      let named = valid.first { NetworkConfiguration.listName(ofFile: $0.file.name) == stem }
      if let named {
        targets.append(named)
      } else {
        problems.append(
          Problem(file: explicit, reason: "it is to carry the plugin, but is not there or not valid", isFatal: true))
      }
      if let first, let named, first.file != named.file {
        problems.append(
          Problem(
            file: first.file.name,
            reason: "it comes before \(named.file.name), so the runtime uses it; the plugin is put in both",
            isFatal: false))
      }
    }
    if let first, !targets.contains(where: { $0.file == first.file }) { targets.append(first) }
    for target in targets { insert(entry, target) }
    primary = first.map { NetworkConfiguration.listName(ofFile: $0.file.name) }
    if first == nil {
      problems.append(
        Problem(file: "", reason: "there is no network configuration yet to put the plugin in", isFatal: true))
    }
  }

  private mutating func insert(_ entry: PluginEntry, _ target: Valid) {
    let wanted = target.configuration.inserting(entry.json)
    guard wanted != target.configuration else { return }
    let name = NetworkConfiguration.listName(ofFile: target.file.name)
    steps.append(.write(file: name, bytes: wanted.bytes, like: target.file.name))
    // A runtime takes `x.conf` before `x.conflist`, so the old one has to go; it stays at hand for the day we leave.
    if name != target.file.name {
      steps.append(.rename(from: target.file.name, to: target.file.name + Self.savedSuffix))
    }
  }

  private mutating func own(_ entry: PluginEntry, _ name: String, _ valid: [Valid]) {
    let others = valid.filter { $0.file.name != name }
    let own = valid.first { $0.file.name == name }
    primary = name
    guard let source = others.first else {
      // What it was made from is gone; pods go on starting with what is there.
      let reason = "there is no network configuration to make it from"
      problems.append(Problem(file: name, reason: reason, isFatal: own?.configuration.hasOurEntry != true))
      return
    }
    let bare = source.configuration.removingOurEntry() ?? source.configuration
    let wanted = bare.inserting(entry.json)
    if own?.configuration != wanted { steps.append(.write(file: name, bytes: wanted.bytes, like: nil)) }
    guard Array(source.file.name.utf8).lexicographicallyPrecedes(Array(name.utf8)) else { return }
    problems.append(
      Problem(
        file: source.file.name, reason: "it comes before \(name), so the runtime uses it; the plugin is put in both",
        isFatal: false))
    insert(entry, source)
    primary = NetworkConfiguration.listName(ofFile: source.file.name)
  }

  private mutating func standAlone(_ entry: PluginEntry, _ name: String, _ files: [File]) {
    primary = name
    var object = entry.json
    object["cniVersion"] = .string(NetworkConfiguration.oldestListVersion.rawValue)
    let present = files.first { $0.name == name }.flatMap { try? JSONValue.parse($0.bytes) }
    guard present != .object(object) else { return }
    steps.append(.write(file: name, bytes: JSONValue.object(object).indentedBytes, like: nil))
  }

  // MARK: Removing

  /// What to do so that no pod passes through our plugin any more, wherever an earlier run put it.
  public static func remove(_ mode: Mode, from files: [File]) -> InstallationPlan {
    var plan = InstallationPlan()
    let valid = plan.valid(files)
    for (file, configuration) in valid where configuration.hasOurEntry {
      guard !mode.owns(file.name), let rest = configuration.removingOurEntry() else {
        plan.steps.append(.remove(file: file.name))
        continue
      }
      plan.restore(file, configuration, rest, files)
    }
    return plan
  }

  private mutating func restore(
    _ file: File, _ configuration: NetworkConfiguration, _ rest: NetworkConfiguration, _ files: [File]
  ) {
    let saved = files.first {
      $0.name.hasSuffix(Self.savedSuffix)
        && NetworkConfiguration.listName(ofFile: String($0.name.dropLast(Self.savedSuffix.count))) == file.name
    }
    guard let saved else {
      steps.append(.write(file: file.name, bytes: rest.bytes, like: file.name))
      return
    }
    let single = try? NetworkConfiguration(saved.bytes, as: .single)
    if let single, configuration.isOnlyOurEntryOver(single) {
      steps.append(.rename(from: saved.name, to: String(saved.name.dropLast(Self.savedSuffix.count))))
      steps.append(.remove(file: file.name))
    } else {
      // Somebody has changed the list since: theirs counts.
      steps.append(.write(file: file.name, bytes: rest.bytes, like: file.name))
      steps.append(.remove(file: saved.name))
    }
  }
}

extension InstallationPlan.Mode {
  /// True for a file that nobody but us writes.
  func owns(_ name: String) -> Bool {
    switch self {
    case .chained: false
    case .owned(let file), .standalone(let file): file == name
    }
  }
}
