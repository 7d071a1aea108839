import Testing
import Vocabulary

@testable import Redirection

/// The listings of redirection.md §4, by hand, so that they do not follow the code.
enum SpecificationListings {
  static let probe: [IPAddress.Family: String] = [
    .v4: "169.254.7.127/32", .v6: "fd16:9254:7127:1337:ffff:ffff:ffff:ffff/128",
  ]
  static let loopback: [IPAddress.Family: String] = [.v4: "127.0.0.1/32", .v6: "::1/128"]

  static let raw = """
    *raw
    :PREROUTING ACCEPT
    :OUTPUT ACCEPT
    :ISTIO_OUTPUT -
    :ISTIO_PRERT -
    -A PREROUTING -j ISTIO_PRERT
    -A OUTPUT -j ISTIO_OUTPUT
    -A ISTIO_OUTPUT -p udp -m mark --mark 0x539/0xfff -m udp --dport 53 -j CT --zone 1
    -A ISTIO_PRERT -p udp -m mark ! --mark 0x539/0xfff -m udp --sport 53 -j CT --zone 1
    COMMIT

    """

  static let mangle = """
    *mangle
    :PREROUTING ACCEPT
    :INPUT ACCEPT
    :FORWARD ACCEPT
    :OUTPUT ACCEPT
    :POSTROUTING ACCEPT
    :ISTIO_OUTPUT -
    :ISTIO_PRERT -
    -A PREROUTING -j ISTIO_PRERT
    -A OUTPUT -j ISTIO_OUTPUT
    -A ISTIO_OUTPUT -m connmark --mark 0x111/0xfff -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
    -A ISTIO_PRERT -m mark --mark 0x539/0xfff -j CONNMARK --set-xmark 0x111/0xfff
    COMMIT

    """

  static func nat(_ mode: Mode, _ family: IPAddress.Family) -> String {
    let probe = probe[family] ?? ""
    let loopback = loopback[family] ?? ""
    let dns = [
      "-A ISTIO_OUTPUT ! -o lo -p udp -m mark ! --mark 0x539/0xfff -m udp --dport 53 -j REDIRECT --to-ports 15053",
      "-A ISTIO_OUTPUT ! -d \(loopback) -p tcp -m tcp --dport 53 -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15053",
    ]
    let interfaces = mode.interfaces.flatMap {
      [
        "-A ISTIO_PRERT -i \($0) -p tcp -j REDIRECT --to-ports 15001",
        "-A ISTIO_PRERT -i \($0) -p tcp -j RETURN",
      ]
    }
    let inbound = [
      "-A ISTIO_PRERT -s \(probe) -p tcp -m tcp -j ACCEPT",
      "-A ISTIO_PRERT ! -d \(loopback) -p tcp -m tcp ! --dport 15008 -m mark ! --mark 0x539/0xfff"
        + " -j REDIRECT --to-ports 15006",
    ]
    let lines =
      [
        "*nat", ":PREROUTING ACCEPT", ":INPUT ACCEPT", ":OUTPUT ACCEPT", ":POSTROUTING ACCEPT", ":ISTIO_OUTPUT -",
        ":ISTIO_PRERT -", "-A PREROUTING -j ISTIO_PRERT", "-A OUTPUT -j ISTIO_OUTPUT",
        "-A ISTIO_OUTPUT -d \(probe) -p tcp -m tcp -j ACCEPT",
      ] + (mode.dns ? dns : []) + [
        "-A ISTIO_OUTPUT -p tcp -m mark --mark 0x111/0xfff -j ACCEPT",
        "-A ISTIO_OUTPUT ! -d \(loopback) -o lo -j ACCEPT",
        "-A ISTIO_OUTPUT ! -d \(loopback) -p tcp -m mark ! --mark 0x539/0xfff -j REDIRECT --to-ports 15001",
      ] + interfaces + (mode.ingress ? [] : inbound) + ["COMMIT"]
    return lines.joined(separator: "\n") + "\n"
  }

  /// Everything of one family: raw only with DNS.
  static func tables(_ mode: Mode, _ family: IPAddress.Family) -> String {
    (mode.dns ? raw : "") + mangle + nat(mode, family)
  }

  /// A line of the mode matrix (redirection.md §4.3).
  struct Mode: CustomTestStringConvertible, Sendable {
    var dns = false
    var ingress = false
    var interfaces: [String] = []

    var settings: RedirectionSettings {
      RedirectionSettings(
        dnsCapture: dns, bypassInboundCapture: ingress, rerouteInterfaces: interfaces.compactMap { InterfaceName($0) })
    }

    var testDescription: String {
      "\(ingress ? "ingress" : "default")\(interfaces.isEmpty ? "" : " + interfaces"), DNS \(dns ? "on" : "off")"
    }

    static let all = [
      Mode(dns: true), Mode(), Mode(ingress: true), Mode(dns: true, ingress: true),
      Mode(interfaces: ["fake1s0f0", "fake1s0f1"]), Mode(ingress: true, interfaces: ["fake1s0f0", "fake1s0f1"]),
      Mode(dns: true, interfaces: ["fake1s0f0", "fake1s0f1"]),
      Mode(dns: true, ingress: true, interfaces: ["a"]),
    ]
  }
}
