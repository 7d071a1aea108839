import Linux
import TLS

/// Where the roots come from by which a server is verified (xds.md §1.2).
public enum TrustRoots: Hashable, Sendable {
  /// A PEM file, read anew for each connection: one that is missing now may be there then.
  case file(String)
  case pem(String)
  /// What the operating system trusts.
  case system

  /// A context that trusts these roots, as they are now. Throws ``GRPCStatus``.
  func context(_ profile: TLSProfile = .standard) throws(GRPCStatus) -> ServerTrustContext {
    do throws(TLSError) {
      switch self {
      case .system: return try ServerTrustContext(roots: .system, profile: profile)
      case .pem(let text):
        return try ServerTrustContext(
          roots: .certificates(try Certificate.parse(pem: text, subject: "root certificates")), profile: profile)
      case .file(let path):
        let bytes: [UInt8]
        do throws(SystemError) { bytes = try SmallFile.read(path) } catch {
          throw .certificateMalformed(path, reason: "it cannot be read: \(error.reason)")
        }
        return try ServerTrustContext(
          roots: .certificates(try Certificate.parse(pem: bytes, subject: path)), profile: profile)
      }
    } catch {
      throw GRPCStatus(.unavailable, "the roots of the control plane cannot be used: \(error.summary)")
    }
  }

  /// Whether these roots can be used, as they are now. Throws ``GRPCStatus``.
  public func check() throws(GRPCStatus) { _ = try context() }

  /// What tells one version of the roots from another.
  var signature: FileSignature? {
    if case .file(let path) = self { FileSignature(path: path) } else { nil }
  }
}
