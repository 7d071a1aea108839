import Glibc
import Linux
import Vocabulary

/// Why a namespace's redirection could not be read, written or proven.
public enum RedirectionError: CodedError, Equatable {
  case probeSourceOfWrongFamily(address: IPAddress, family: IPAddress.Family)
  /// Another process held the lock for the whole wait.
  case lockTimedOut(path: String)
  case lockUnusable(path: String, SystemError)
  /// The kernel's legacy xtables core is not there (`ENOPROTOOPT`).
  case legacyTablesMissing(family: IPAddress.Family)
  /// The core is there, one table is not (`ENOENT`).
  case tableMissing(table: String)
  /// The kernel has no match or target of this name in a revision this project can write.
  case extensionMissing(name: String, family: IPAddress.Family)
  case notPermitted(subject: String)
  /// A table's content does not have the form the kernel's headers promise.
  case tableMalformed(table: String, chain: String, reason: String)
  /// Other writers changed the table between reading and writing, every time.
  case tableBusy(table: String)
  case tableFailed(table: String, SystemError)
  /// The namespace's loopback interface is down, so no route may lead to it.
  case loopbackDown
  /// The kernel has no policy routing (`EOPNOTSUPP`, `EAFNOSUPPORT`).
  case policyRoutingMissing(family: IPAddress.Family)
  case netlinkMalformed(reason: String)
  /// The kernel has no sets of addresses (`ip_set`, `ip_set_hash_ip`).
  case setsMissing
  /// A set of our name exists that is not ours.
  case setOfOtherKind(name: String)
  /// `number` is the system's, or past 4096 one of `ip_set.h`.
  case setFailed(name: String, step: String, number: CInt)
  case netlinkFailed(SystemError)
  case unreadable(path: String, SystemError)
  /// Written without an error, and yet not there when read back.
  case notProven([RedirectionDeviation])
  case namespace(NetworkNamespaceError)

  public var code: String {
    switch self {
    case .probeSourceOfWrongFamily: "REDIRECTION_PROBE_SOURCE_FAMILY"
    case .lockTimedOut: "REDIRECTION_LOCK_TIMEOUT"
    case .lockUnusable: "REDIRECTION_LOCK_UNUSABLE"
    case .legacyTablesMissing: "REDIRECTION_LEGACY_TABLES_MISSING"
    case .tableMissing: "REDIRECTION_TABLE_MISSING"
    case .extensionMissing: "REDIRECTION_EXTENSION_MISSING"
    case .notPermitted: "REDIRECTION_NOT_PERMITTED"
    case .tableMalformed: "REDIRECTION_TABLE_MALFORMED"
    case .tableBusy: "REDIRECTION_TABLE_BUSY"
    case .tableFailed: "REDIRECTION_TABLE_FAILED"
    case .loopbackDown: "REDIRECTION_LOOPBACK_DOWN"
    case .policyRoutingMissing: "REDIRECTION_POLICY_ROUTING_MISSING"
    case .netlinkMalformed: "REDIRECTION_NETLINK_MALFORMED"
    case .setsMissing: "REDIRECTION_SETS_MISSING"
    case .setOfOtherKind: "REDIRECTION_SET_OF_OTHER_KIND"
    case .setFailed: "REDIRECTION_SET_FAILED"
    case .netlinkFailed: "REDIRECTION_NETLINK_FAILED"
    case .unreadable: "REDIRECTION_UNREADABLE"
    case .notProven: "REDIRECTION_NOT_PROVEN"
    case .namespace(let error): error.code
    }
  }

  public var summary: String {
    switch self {
    case .probeSourceOfWrongFamily(let address, let family):
      "the probe source address \(address) is not IP\(family.rawValue)"
    case .lockTimedOut(let path): "another process held \(path) for too long"
    case .lockUnusable(let path, let error): "the lock \(path) cannot be used: \(error.summary)"
    case .legacyTablesMissing(let family): "the kernel has no legacy \(Self.core(family)) loaded"
    case .tableMissing(let table): "the kernel has no legacy table \(table)"
    case .extensionMissing(let name, let family):
      "the kernel has no usable revision of the \(Self.core(family)) extension \(name)"
    case .notPermitted(let subject): "\(subject) may not be read or written by this process"
    case .tableMalformed(let table, let chain, let reason):
      "table \(table), chain \(chain) cannot be understood: \(reason)"
    case .tableBusy(let table): "table \(table) changed during every attempt to write it"
    case .tableFailed(let table, let error): "table \(table) failed: \(error.summary)"
    case .loopbackDown: "the namespace's loopback interface is down"
    case .policyRoutingMissing(let family): "the kernel has no IP\(family.rawValue) policy routing"
    case .netlinkMalformed(let reason): "the kernel's netlink answer cannot be understood: \(reason)"
    case .setsMissing: "the kernel has no sets of addresses"
    case .setOfOtherKind(let name): "a set \(name) exists that is not `hash:ip` with comments"
    case .setFailed(let name, let step, let number):
      "set \(name) failed at \(step): \(number < 4096 ? SystemError(step, number).reason : "ip_set error \(number)")"
    case .netlinkFailed(let error): "changing or reading routes, sets or nftables failed: \(error.summary)"
    case .unreadable(let path, let error): "\(path) cannot be read: \(error.summary)"
    case .notProven(let deviations):
      "what was written is not what is there: "
        + deviations.prefix(3).map(\.description).joined(separator: "; ")
        + (deviations.count > 3 ? "; and \(deviations.count - 3) more" : "")
    case .namespace(let error): error.summary
    }
  }

  public var remedy: String? {
    switch self {
    case .probeSourceOfWrongFamily: "check HOST_PROBE_SNAT_IP and HOST_PROBE_SNAT_IPV6"
    case .lockTimedOut: "see who holds it with `fuser`, or give another lock path"
    case .lockUnusable: "check that its directory exists and is writable"
    case .legacyTablesMissing(let family):
      "run `modprobe \(Self.core(family))` on the node, where programs with iptables-nft do not load it, and check that the "
        + "kernel has CONFIG_NETFILTER_XTABLES_LEGACY"
    case .tableMissing: "check that the node can load the module of that table (iptable_nat, ip6table_nat, ...)"
    case .extensionMissing(let name, _): "check that the node can load the module xt_\(name)"
    case .notPermitted: "run as root with CAP_NET_ADMIN and CAP_NET_RAW"
    case .tableMalformed: "compare with `iptables-legacy-save` in the namespace"
    case .tableBusy: "see which other program writes rules in the namespace"
    case .tableFailed: nil
    case .loopbackDown: "run `ip link set lo up` in the namespace, or check the CNI loopback plugin"
    case .policyRoutingMissing: "check that the kernel has CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES"
    case .setsMissing: "check that the node can load the modules ip_set, ip_set_hash_ip and xt_set"
    case .setOfOtherKind(let name): "see who made it with `ipset list \(name)`, and rename or destroy it"
    case .netlinkMalformed, .netlinkFailed, .setFailed, .unreadable: nil
    case .notProven: "see which other program writes rules or routes in the namespace"
    case .namespace(let error): error.remedy
    }
  }

  private static func core(_ family: IPAddress.Family) -> String { family == .v4 ? "ip_tables" : "ip6_tables" }
}
