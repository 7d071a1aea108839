import JSON

/// The result of the plugins before ours, which becomes our own.
public enum PluginResult {
  /// What to write to standard output: `previous` byte for byte where it is written in `version` already, else the same
  /// in the form of `version`; an empty result where there is none.
  ///
  /// Throws ``CNIError``: `.undecodable` for a previous result that is none, `.incompatibleVersion` for one of a version
  /// that we do not know, `.configuration` for one that cannot be told in `version`.
  public static func output(_ previous: [UInt8]?, in version: CNIVersion) throws(CNIError) -> [UInt8] {
    guard let previous else { return empty(version).bytes }
    let object = try object(previous)
    guard let named = try named(object) else {
      // Written in the configuration's version, as the specification has it, without saying so.
      return JSONValue.object(naming(version, object)).bytes
    }
    if named == version { return previous }
    return JSONValue.object(naming(version, try converted(object, from: named, to: version))).bytes
  }

  /// The addresses of a result in any form, without their prefix lengths. What is no address is left out: other plugins
  /// answer for what they write.
  public static func addresses(_ result: [UInt8]) throws(CNIError) -> [String] {
    let object = try object(result)
    let listed = object["ips"]?.array?.compactMap { $0["address"]?.string } ?? []
    let separate = ["ip4", "ip6"].compactMap { object[$0]?["ip"]?.string }
    return (listed + separate).map { String($0.prefix { $0 != "/" }) }
  }

  // MARK: Reading

  private static func object(_ bytes: [UInt8]) throws(CNIError) -> JSONObject {
    let value: JSONValue
    do throws(JSONError) { value = try JSONValue.parse(bytes) } catch { throw .undecodable("prevResult: \(error)") }
    guard let object = value.object else { throw .undecodable("prevResult is a \(value.kind), not an object") }
    return object
  }

  private static func named(_ object: JSONObject) throws(CNIError) -> CNIVersion? {
    guard let value = object["cniVersion"], !value.isNull, value != "" else { return nil }
    guard let text = value.string else { throw .undecodable("prevResult: cniVersion is a \(value.kind)") }
    guard let version = CNIVersion(rawValue: text) else { throw .incompatibleVersion(text) }
    return version
  }

  // MARK: Writing

  private static func empty(_ version: CNIVersion) -> JSONValue {
    ["cniVersion": .string(version.rawValue), "dns": [:]]
  }

  private static func naming(_ version: CNIVersion, _ object: JSONObject) -> JSONObject {
    var rest = object
    rest["cniVersion"] = nil
    return JSONObject([.init(key: "cniVersion", value: .string(version.rawValue))] + rest.members)
  }

  private static func converted(
    _ object: JSONObject, from old: CNIVersion, to new: CNIVersion
  ) throws(CNIError) -> JSONObject {
    if old.resultForm == new.resultForm { return object }
    switch (old.resultForm, new.resultForm) {
    case (.separateFamilies, _): return joined(object, versioned: new.resultForm == .versionedAddresses)
    case (_, .separateFamilies): return try separated(object, old, new)
    case (_, .versionedAddresses): return mapAddresses(object) { $0["version"] = .string(family($0["address"])) }
    default: return mapAddresses(object) { $0["version"] = nil }
    }
  }

  private static func mapAddresses(_ object: JSONObject, _ change: (inout JSONObject) -> Void) -> JSONObject {
    var result = object
    guard let addresses = object["ips"]?.array else { return object }
    result["ips"] = .array(
      addresses.map { address in
        guard var members = address.object else { return address }
        change(&members)
        return .object(members)
      })
    return result
  }

  /// From `ip4` and `ip6` to `ips` and `routes`.
  private static func joined(_ object: JSONObject, versioned: Bool) -> JSONObject {
    var result = object
    var addresses: [JSONValue] = []
    var routes: [JSONValue] = []
    for (key, version) in [("ip4", "4"), ("ip6", "6")] {
      guard let family = object[key]?.object else { continue }
      var address = JSONObject()
      if versioned { address["version"] = .string(version) }
      address["address"] = family["ip"]
      address["gateway"] = family["gateway"]
      addresses.append(.object(address))
      routes += family["routes"]?.array ?? []
      result[key] = nil
    }
    result["ips"] = .array(addresses)
    if !routes.isEmpty { result["routes"] = .array(routes) }
    return result
  }

  /// The other way: the first address of each family is told, with the routes of its family.
  private static func separated(
    _ object: JSONObject, _ old: CNIVersion, _ new: CNIVersion
  ) throws(CNIError) -> JSONObject {
    var result = object
    for key in ["interfaces", "ips", "routes"] { result[key] = nil }
    for (key, version) in [("ip4", "4"), ("ip6", "6")] {
      let first = object["ips"]?.array?.first { family($0["address"]) == version }
      guard let first else { continue }
      var member = JSONObject()
      member["ip"] = first["address"]
      member["gateway"] = first["gateway"]
      let routes = object["routes"]?.array?.filter { family($0["dst"]) == version } ?? []
      if !routes.isEmpty {
        member["routes"] = .array(routes.map { .object(JSONObject(($0.object?.members ?? []).filter(isOldMember))) })
      }
      result[key] = .object(member)
    }
    guard result["ip4"] != nil || result["ip6"] != nil else {
      throw .configuration(
        "prevResult of CNI \(old.rawValue) has no address, which CNI \(new.rawValue) cannot tell")
    }
    return result
  }

  private static func isOldMember(_ member: JSONObject.Member) -> Bool { member.key == "dst" || member.key == "gw" }

  private static func family(_ address: JSONValue?) -> String {
    address?.string?.contains(":") == true ? "6" : "4"
  }
}
