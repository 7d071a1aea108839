import Glibc
import Linux
import TLS

/// The files of a certificate authority, under the names that Istio's `cacerts` secret gives them.
enum AuthorityFile: String, CaseIterable {
  /// The trust bundle: one or several roots.
  case root = "root-cert.pem"
  /// The certificate that signs workloads: an intermediate, or the root itself.
  case certificate = "ca-cert.pem"
  /// Its key.
  case key = "ca-key.pem"
  /// `ca-cert.pem` and everything between it and the root. May be missing where there is nothing between.
  case chain = "cert-chain.pem"

  func path(in directory: String) -> String { "\(directory)/\(rawValue)" }
}

/// What tells one content of the files from another without reading them.
struct AuthorityFilesStamp: Hashable {
  private struct File: Hashable {
    var device: UInt
    var inode: UInt
    var size: Int
    var seconds: Int
    var nanoseconds: Int
  }

  private var files: [File?]

  /// Looks at the files of a directory, following the symbolic links by which a Kubernetes volume is swapped.
  init(directory: String) {
    files = AuthorityFile.allCases.map { file in
      var status = stat()
      guard stat(file.path(in: directory), &status) == 0 else { return nil }
      return File(
        device: UInt(status.st_dev), inode: UInt(status.st_ino), size: Int(status.st_size),
        seconds: status.st_mtim.tv_sec, nanoseconds: status.st_mtim.tv_nsec)
    }
  }
}

/// A certificate authority's certificates and key, read and found consistent.
struct AuthorityMaterial: Sendable {
  let certificate: Certificate
  let key: PrivateKey
  /// What workloads present after their leaf: the signing certificate and those above it, without any root.
  let intermediates: [Certificate]
  let roots: [Certificate]

  /// The last second at which everything that a workload's chain rests on is valid.
  var notAfter: Timestamp {
    intermediates.map(\.notAfter).reduce(certificate.notAfter, min)
  }

  /// Reads and checks a directory. Every error names the file that is at fault.
  static func load(directory: String, now: Timestamp) throws(IdentityError) -> AuthorityMaterial {
    let roots = try certificates(.root, in: directory)
    guard let certificate = try certificates(.certificate, in: directory).first else {
      throw .notAnAuthority(path: AuthorityFile.certificate.path(in: directory))
    }
    let key = try privateKey(in: directory)
    let chain =
      access(AuthorityFile.chain.path(in: directory), F_OK) == 0 ? try certificates(.chain, in: directory) : []

    let path = AuthorityFile.certificate.path(in: directory)
    guard certificate.matches(key) else { throw .keyMismatch(path: AuthorityFile.key.path(in: directory)) }
    guard certificate.isAuthority else { throw .notAnAuthority(path: path) }
    guard certificate.isValid(at: now) else {
      throw .authorityNotValid(path: path, notBefore: certificate.notBefore, notAfter: certificate.notAfter)
    }
    if let fault = certificate.fault(through: chain, to: roots, at: now) {
      throw .chainBroken(path: path, reason: fault)
    }

    var intermediates: [Certificate] = []
    for member in [certificate] + chain
    where !member.isSelfSigned && !roots.contains(member) && !intermediates.contains(member) {
      intermediates.append(member)
    }
    return AuthorityMaterial(certificate: certificate, key: key, intermediates: intermediates, roots: roots)
  }

  private static func certificates(
    _ file: AuthorityFile, in directory: String
  ) throws(IdentityError) -> [Certificate] {
    let path = file.path(in: directory)
    let bytes = try contents(path)
    do throws(TLSError) {
      return try Certificate.parse(pem: bytes, subject: path)
    } catch {
      throw .fileMalformed(path: path, cause: error)
    }
  }

  private static func privateKey(in directory: String) throws(IdentityError) -> PrivateKey {
    let path = AuthorityFile.key.path(in: directory)
    let bytes = try contents(path)
    do throws(TLSError) {
      return try PrivateKey(pem: bytes, subject: path)
    } catch {
      throw .fileMalformed(path: path, cause: error)
    }
  }

  /// A file's bytes, at most one mebibyte.
  private static func contents(_ path: String) throws(IdentityError) -> [UInt8] {
    do throws(SystemError) {
      return try WholeFile.read(path, limit: 1 << 20)
    } catch {
      throw .fileUnreadable(path: path, reason: error.reason)
    }
  }
}
