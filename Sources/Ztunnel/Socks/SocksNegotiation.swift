import Vocabulary

/// Where a SOCKS5 client wants to go.
enum SocksTarget: Equatable {
  case address(SocketAddress)
  /// Visible ASCII without spaces, lower case.
  case hostname(String, port: UInt16)
}

/// The server's side of a SOCKS5 negotiation (RFC 1928), as far as it is served: no authentication, CONNECT.
///
/// It says how many bytes it wants next and takes no more, so that what the client sends ahead of time is never in it.
struct SocksNegotiation {
  enum Step: Equatable {
    /// Read on, up to ``bytesWanted``.
    case wantsBytes
    /// Send this, then read on.
    case answer([UInt8])
    /// The request is complete.
    case connect(SocksTarget)
    /// Send this, then close.
    case refuse([UInt8], SocksError)
  }

  private enum Stage {
    case greeting
    case methods
    case request
    case nameLength
    case address(type: UInt8)
    case over
  }

  private enum AddressType {
    static let v4: UInt8 = 1
    static let name: UInt8 = 3
    static let v6: UInt8 = 4
  }

  private static let version: UInt8 = 5
  private static let noAuthentication: UInt8 = 0
  private static let noAcceptableMethod: UInt8 = 0xff
  private static let connectCommand: UInt8 = 1

  private var stage = Stage.greeting
  private var expected = 2
  private var received: [UInt8] = []

  /// Bytes until the next step, 0 when it is over.
  var bytesWanted: Int { expected - received.count }

  /// Takes what came in: at most ``bytesWanted``, more is ignored.
  mutating func receive(_ bytes: some Collection<UInt8>) -> Step {
    received += bytes.prefix(bytesWanted)
    guard bytesWanted == 0 else { return .wantsBytes }
    let message = received
    received = []
    expected = 0
    switch stage {
    case .greeting: return greeting(message)
    case .methods: return methods(message)
    case .request: return request(message)
    case .nameLength: return nameLength(message)
    case .address(let type): return address(type, message)
    case .over: return .wantsBytes
    }
  }

  private mutating func want(_ count: Int, _ stage: Stage) -> Step {
    expected = count
    self.stage = stage
    return .wantsBytes
  }

  private mutating func refuse(_ error: SocksError) -> Step {
    stage = .over
    return .refuse(error.reply?.bytes ?? [], error)
  }

  private mutating func greeting(_ message: [UInt8]) -> Step {
    guard message[0] == Self.version else { return refuse(.version(message[0])) }
    if message[1] == 0 { return methods([]) }
    return want(Int(message[1]), .methods)
  }

  private mutating func methods(_ message: [UInt8]) -> Step {
    guard message.contains(Self.noAuthentication) else {
      stage = .over
      return .refuse([Self.version, Self.noAcceptableMethod], .noAcceptableMethod)
    }
    _ = want(4, .request)
    return .answer([Self.version, Self.noAuthentication])
  }

  private mutating func request(_ message: [UInt8]) -> Step {
    guard message[0] == Self.version else { return refuse(.version(message[0])) }
    guard message[1] == Self.connectCommand else { return refuse(.command(message[1])) }
    switch message[3] {
    case AddressType.v4: return want(6, .address(type: message[3]))
    case AddressType.v6: return want(18, .address(type: message[3]))
    case AddressType.name: return want(1, .nameLength)
    default: return refuse(.addressType(message[3]))
    }
  }

  private mutating func nameLength(_ message: [UInt8]) -> Step {
    guard message[0] > 0 else { return refuse(.malformedName) }
    return want(Int(message[0]) + 2, .address(type: AddressType.name))
  }

  private mutating func address(_ type: UInt8, _ message: [UInt8]) -> Step {
    let host = message.dropLast(2)
    let port = message.suffix(2).reduce(UInt16(0)) { $0 << 8 | UInt16($1) }
    if type != AddressType.name {
      guard let ip = IPAddress(bytes: host) else { return refuse(.addressType(type)) }
      stage = .over
      return .connect(.address(SocketAddress(ip.canonical, port)))
    }
    guard host.allSatisfy({ (0x21...0x7e).contains($0) }) else { return refuse(.malformedName) }
    var name = String(decoding: host, as: UTF8.self).lowercased()
    if name.hasSuffix(".") { name.removeLast() }
    guard !name.isEmpty else { return refuse(.malformedName) }
    stage = .over
    if let ip = IPAddress(name) { return .connect(.address(SocketAddress(ip.canonical, port))) }
    return .connect(.hostname(name, port: port))
  }
}
