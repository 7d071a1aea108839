import Linux

/// What a client says about itself with each call (xds.md §1.3).
public struct CallCredentials: Hashable, Sendable {
  /// Where the bearer token comes from.
  public enum Token: Hashable, Sendable {
    /// Read anew for each call.
    case file(String)
    /// The same, and no token is sent while the file is not there.
    case optionalFile(String)
    case literal(String)
  }

  public var token: Token?
  public var clusterID: String
  /// Sent as they are, after the others.
  public var headers: [Header]

  /// A field of every call.
  public struct Header: Hashable, Sendable {
    public var name: String
    public var value: String

    public init(_ name: String, _ value: String) {
      self.name = name
      self.value = value
    }

    /// What every call of the SPIFFE Workload API must carry, so that no request that a program was tricked into reaches
    /// the agent.
    public static let workloadAPI = Header("workload.spiffe.io", "true")

    /// Whether gRPC lets applications send it: a lower-case name that is neither binary nor gRPC's own, a printable
    /// value.
    public var isLegal: Bool {
      let isNameLegal = name.utf8.allSatisfy { byte in
        (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
          || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || "-_.".utf8.contains(byte)
      }
      return isNameLegal && !name.isEmpty && !name.hasSuffix("-bin") && !name.hasPrefix("grpc-")
        && value.utf8.allSatisfy { (0x20...0x7e).contains($0) }
    }
  }

  public init(token: Token? = nil, clusterID: String = "", headers: [Header] = []) {
    self.token = token
    self.clusterID = clusterID
    self.headers = headers
  }

  /// The fields for one call, made now. The token is trimmed. Throws `UNAUTHENTICATED` for a token that cannot be
  /// read, is empty, or cannot stand in a header.
  func fields() throws(GRPCStatus) -> [Header] {
    guard let text = try tokenText() else { return headers }
    guard !text.isEmpty, text.utf8.allSatisfy({ (0x21...0x7e).contains($0) }) else {
      throw GRPCStatus(.unauthenticated, "the token is empty or holds characters that no token has")
    }
    return [Header("authorization", "Bearer \(text)"), Header("clusterid", clusterID)] + headers
  }

  private func tokenText() throws(GRPCStatus) -> String? {
    switch token {
    case nil: return nil
    case .literal(let text): return Self.trimmed(text)
    case .optionalFile(let path) where FileSignature(path: path) == nil: return nil
    case .file(let path), .optionalFile(let path):
      do throws(SystemError) {
        return Self.trimmed(String(decoding: try SmallFile.read(path, limit: 64 << 10), as: UTF8.self))
      } catch {
        throw GRPCStatus(.unauthenticated, "the token cannot be read: \(error.summary)")
      }
    }
  }

  private static func trimmed(_ text: String) -> String {
    String(text.drop(while: \.isWhitespace).reversed().drop(while: \.isWhitespace).reversed())
  }
}
