import Foundation
import TLS
import TestSupport
import Testing
import Vocabulary

/// An Envoy in a namespace, ended with the test's network.
struct EnvoyProcess: Sendable {
  let process: RunningProcess
  private let place: TestNamespace
  private let configuration: String

  /// Its administration port, on loopback.
  private static let adminPort: UInt16 = 9901

  /// Starts it with `resources` (the value of `static_resources`) and returns when it serves.
  init(in holder: some NamespaceHolder, directory: String, name: String, resources: String) throws {
    let path = "\(directory)/envoy-\(name).yaml"
    let configuration = """
      admin: {address: {socket_address: {address: 127.0.0.1, port_value: \(Self.adminPort)}}}
      static_resources:
      \(resources.split(separator: "\n", omittingEmptySubsequences: false).map { "  \($0)" }.joined(separator: "\n"))
      """
    try configuration.write(toFile: path, atomically: true, encoding: .utf8)
    try self.init(in: holder, configuration: path)
  }

  private init(in holder: some NamespaceHolder, configuration path: String) throws {
    place = holder.place
    configuration = path
    let binary = try #require(PythonEnvironment.envoy)
    process = try holder.spawn([
      binary, "-c", path, "--concurrency", "1", "--disable-hot-restart", "-l", "warning", "--file-flush-interval-msec",
      "50",
    ])
    let isReady = eventually(within: .seconds(30)) {
      guard process.isRunning else { return true }
      return (try? administration("/ready"))?.contains("LIVE") == true
    }
    try #require(isReady && process.isRunning, "Envoy serves: \(process.output)\(process.errors)")
  }

  /// Kills it, and starts another in its place.
  func replaced() throws -> EnvoyProcess {
    process.kill()
    _ = process.waitForExit(within: .seconds(5))
    return try EnvoyProcess(in: place, configuration: configuration)
  }

  /// The answer to a GET on its administration port.
  func administration(_ path: String) throws -> String {
    let connection = try TCPClient(in: place).connect(to: SocketAddress(.loopback(.v4), Self.adminPort))
    try connection.send("GET \(path) HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")
    return try connection.receiveTextToEnd()
  }

  /// The value of one counter or gauge; 0 when it has none yet.
  func statistic(_ name: String) throws -> Int {
    let lines = try administration("/stats?filter=^\(name)$").split(whereSeparator: \.isNewline)
    let line = lines.first { $0.hasPrefix("\(name): ") }
    return line.flatMap { Int($0.dropFirst(name.count + 2)) } ?? 0
  }
}

/// A workload's certificate in files, as Envoy reads it.
struct EnvoyCertificate: Sendable {
  private let chain: String
  private let key: String
  private let roots: String

  init(_ certificate: WorkloadCertificate, in directory: String, name: String) throws {
    chain = "\(directory)/envoy-\(name)-chain.pem"
    key = "\(directory)/envoy-\(name)-key.pem"
    roots = "\(directory)/envoy-\(name)-roots.pem"
    try certificate.chain.map { try $0.pem() }.joined().write(toFile: chain, atomically: true, encoding: .utf8)
    try certificate.privateKey.pem().write(toFile: key, atomically: true, encoding: .utf8)
    try certificate.roots.map { try $0.pem() }.joined().write(toFile: roots, atomically: true, encoding: .utf8)
  }

  /// The fields that both ends' TLS have in common. `peer` is a matcher of the other end's SPIFFE id.
  func common(peer: String) -> String {
    """
    common_tls_context: {alpn_protocols: [h2],
      tls_params: {tls_minimum_protocol_version: TLSv1_3, tls_maximum_protocol_version: TLSv1_3},
      tls_certificates: [{certificate_chain: {filename: "\(chain)"}, private_key: {filename: "\(key)"}}],
      validation_context: {trusted_ca: {filename: "\(roots)"},
        match_typed_subject_alt_names: [{san_type: URI, matcher: \(peer)}]}}
    """
  }
}

/// The two halves of a tunnel as Envoy is told to make them.
enum EnvoyResources {
  private static let types = "type.googleapis.com/envoy.extensions"
  private static let log = """
    {name: envoy.access_loggers.stdout, typed_config: {
      "@type": \(types).access_loggers.stream.v3.StdoutAccessLog, log_format: {text_format_source: {inline_string:
    """

  /// Takes plain TCP on `port` and tunnels it to `server`'s port 15008, asking for `authority`.
  static func client(
    port: UInt16, to server: SocketAddress, authority: SocketAddress, peer: SPIFFEIdentity,
    _ certificate: EnvoyCertificate
  ) -> String {
    """
    listeners:
    - name: plain
      address: {socket_address: {address: 127.0.0.1, port_value: \(port)}}
      filter_chains:
      - filters:
        - name: envoy.filters.network.tcp_proxy
          typed_config:
            "@type": \(types).filters.network.tcp_proxy.v3.TcpProxy
            stat_prefix: plain
            cluster: tunnel
            tunneling_config: {hostname: "\(authority)", propagate_response_headers: true}
            access_log:
            - \(log)
                "answer=%FILTER_STATE(envoy.tcp_proxy.propagate_response_headers:TYPED)%\\n"}}}}
    clusters:
    - name: tunnel
      type: STATIC
      connect_timeout: 5s
      load_assignment: {cluster_name: tunnel, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address:
        {address: "\(server.ip)", port_value: \(server.port)}}}}]}]}
      typed_extension_protocol_options:
        envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
          "@type": \(types).upstreams.http.v3.HttpProtocolOptions
          explicit_http_config: {http2_protocol_options: {}}
      transport_socket: {name: envoy.transport_sockets.tls, typed_config: {
        "@type": \(types).transport_sockets.tls.v3.UpstreamTlsContext,
        \(certificate.common(peer: "{exact: \"\(peer)\"}"))}}
    """
  }

  /// Takes tunnels on port 15008 of `address` and forwards their bytes to `target`. Its log has the peer's identity,
  /// the authority and the request's baggage of each.
  static func server(on address: IPAddress, to target: SocketAddress, _ certificate: EnvoyCertificate) -> String {
    """
    listeners:
    - name: tunnel
      address: {socket_address: {address: "\(address)", port_value: 15008}}
      filter_chains:
      - transport_socket: {name: envoy.transport_sockets.tls, typed_config: {
          "@type": \(types).transport_sockets.tls.v3.DownstreamTlsContext, require_client_certificate: true,
          \(certificate.common(peer: "{prefix: \"spiffe://cluster.local/\"}"))}}
        filters:
        - name: envoy.filters.network.http_connection_manager
          typed_config:
            "@type": \(types).filters.network.http_connection_manager.v3.HttpConnectionManager
            stat_prefix: tunnel
            codec_type: HTTP2
            http2_protocol_options: {allow_connect: true}
            access_log:
            - \(log)
                "peer=%DOWNSTREAM_PEER_URI_SAN% authority=%REQ(:AUTHORITY)% status=%RESPONSE_CODE% baggage=%REQ(BAGGAGE)% forwarded=%REQ(FORWARDED)% traceparent=%REQ(TRACEPARENT)%\\n"}}}}
            route_config:
              virtual_hosts:
              - name: every
                domains: ["*"]
                routes:
                - match: {connect_matcher: {}}
                  route: {cluster: application, timeout: 0s,
                    upgrade_configs: [{upgrade_type: CONNECT, connect_config: {}}]}
            upgrade_configs: [{upgrade_type: CONNECT}]
            http_filters:
            - name: envoy.filters.http.router
              typed_config: {"@type": \(types).filters.http.router.v3.Router}
    clusters:
    - name: application
      type: STATIC
      connect_timeout: 5s
      load_assignment: {cluster_name: application, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address:
        {address: "\(target.ip)", port_value: \(target.port)}}}}]}]}
    """
  }
}
