import Vocabulary

extension MeshSnapshot {
  /// Decides where the bytes of a CONNECT request go (hbone.md §7, services.md §9). Policy comes after, with
  /// ``InboundRoute/policyDestination``.
  ///
  /// - Parameters:
  ///   - local: the workload whose listener the request came to.
  ///   - connectionIP: the local address of the TCP connection.
  ///   - authority: the bytes of `:authority`, as the peer sent them.
  public func inbound(
    to local: Workload, connectionIP: IPAddress, authority bytes: some Collection<UInt8>
  ) -> InboundDecision {
    guard let authority = TunnelAuthority(bytes) else { return .refused(.badAuthority(bytes: bytes)) }
    let connectionIP = connectionIP.canonical
    switch authority {
    case .address(let address):
      guard accepts(address.ip, for: local, connectionIP: connectionIP) else {
        return .refused(.addressMismatch(connection: connectionIP, authority: address.ip))
      }
      return deliver(authority, to: local, connectionIP, port: address.port, service: nil)
    case .hostname(let hostname, let servicePort):
      guard let service = service(hostname: hostname, clientNamespace: local.namespace) else {
        return .refused(.unknownHostname(hostname))
      }
      let own = local.services[service.key]?[servicePort].flatMap { $0 == 0 ? nil : $0 }
      guard let port = own ?? service.ports[servicePort], port != 0 else {
        return .refused(.unresolvedPort(hostname: hostname, port: servicePort))
      }
      return deliver(authority, to: local, connectionIP, port: port, service: service)
    }
  }

  /// True when `local` may be asked for `ip`: its own connection's address, anything for an application tunnel, or
  /// something whose waypoint it is.
  private func accepts(_ ip: IPAddress, for local: Workload, connectionIP: IPAddress) -> Bool {
    if ip == connectionIP || local.applicationTunnel != nil { return true }
    let address = NetworkAddress(network: settings.network, ip: ip)
    let owners = workloads(at: NetworkAddress(network: local.network, ip: connectionIP)) + [local]
    let isLocal = { (waypoint: GatewayReference) in
      owners.contains { gateway(waypoint, clientNamespace: nil, is: $0) }
    }
    if let workload = workload(at: address) {
      guard let waypoint = workload.waypoint else { return false }
      return isLocal(waypoint)
    }
    guard let service = service(at: address, clientNamespace: nil) else { return false }
    let waypoints = [service.waypoint].compactMap { $0 } + service.weightedWaypoints.map(\.waypoint)
    return waypoints.contains(where: isLocal)
  }

  private func deliver(
    _ authority: TunnelAuthority, to local: Workload, _ connectionIP: IPAddress, port: UInt16, service: Service?
  ) -> InboundDecision {
    guard !settings.isReserved(port: port) else { return .refused(.selfCall(port)) }
    guard let tunnel = local.applicationTunnel else {
      let target = SocketAddress(connectionIP, port)
      return .accepted(
        InboundRoute(
          target: target, policyDestination: target, authority: authority, applicationTunnel: nil,
          proxyHeaderDestination: nil, isFromLoopback: false, service: service))
    }
    let target = SocketAddress(connectionIP, tunnel.port ?? port)
    var header: SocketAddress?
    if tunnel.wire == .proxy {
      guard let destination = proxyHeaderDestination(for: authority, service: service) else {
        return .refused(.noServiceAddress(hostname: service?.hostname ?? authority.description))
      }
      header = destination
    }
    let isOverLoopback = tunnel.wire == .proxy && settings.reachesApplicationTunnelsOverLoopback
    return .accepted(
      InboundRoute(
        target: isOverLoopback ? SocketAddress(.loopback(connectionIP.family), target.port) : target,
        policyDestination: target, authority: authority, applicationTunnel: tunnel, proxyHeaderDestination: header,
        isFromLoopback: isOverLoopback, service: service))
  }

  /// The authority's address, or an address of the service it names: one of our own network first, then IPv4.
  private func proxyHeaderDestination(for authority: TunnelAuthority, service: Service?) -> SocketAddress? {
    switch authority {
    case .address(let address): return address
    case .hostname(_, let port):
      let best = service?.addresses.max { rank($0) < rank($1) }
      return best.map { SocketAddress($0.ip, port) }
    }
  }

  private func rank(_ address: NetworkAddress) -> Int {
    (address.network == settings.network ? 2 : 0) + (address.ip.family == .v4 ? 1 : 0)
  }
}
