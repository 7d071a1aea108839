import Glibc
import Linux
import TLS

/// Makes the files of a new certificate authority: a root, and an intermediate that signs workloads.
///
/// For demonstrations, tests and single machines. The root's key exists only while this runs and is never written, so
/// nothing but the intermediate can be signed by it; when the intermediate ends, a new authority is needed.
public enum DevelopmentAuthority {
  /// Writes `root-cert.pem`, `ca-cert.pem`, `cert-chain.pem` and `ca-key.pem` into `directory`, which is made where
  /// it is missing (mode 0700). The key's mode is 0600, the certificates' 0644.
  ///
  /// `lifetime` is that of both certificates. Throws `authorityExists` where any of the files is there already, of
  /// which none is touched, and `fileNotWritten` where the directory or a file cannot be written.
  public static func create(
    in directory: String, organization: String = "Development mesh", lifetime: Duration = .seconds(365 * 86400),
    now: Timestamp = .now
  ) throws(IdentityError) {
    for file in AuthorityFile.allCases where access(file.path(in: directory), F_OK) == 0 {
      throw .authorityExists(path: file.path(in: directory))
    }
    let texts = try authority(organization: organization, lifetime: lifetime, now: now, directory: directory)
    if mkdir(directory, 0o700) != 0, errno != EEXIST {
      throw .fileNotWritten(path: directory, reason: SystemError("mkdir", errno).reason)
    }
    var written: [String] = []
    do throws(IdentityError) {
      for (file, text) in texts {
        let path = file.path(in: directory)
        let handle = try open(path, mode: file == .key ? 0o600 : 0o644)
        written.append(path)
        try write(text, to: handle, path)
      }
    } catch {
      // Half an authority would only be in the way of the next attempt.
      for path in written { unlink(path) }
      throw error
    }
  }

  private static func authority(
    organization: String, lifetime: Duration, now: Timestamp, directory: String
  ) throws(IdentityError) -> [(AuthorityFile, String)] {
    do throws(TLSError) {
      let notBefore = now.advanced(bySeconds: -LocalAuthority.backdating)
      let notAfter = now.advanced(bySeconds: max(1, lifetime.components.seconds))
      let rootKey = try PrivateKey.generate()
      let root = try CertificateTemplate(
        organization: organization, commonName: "Root CA", isAuthority: true, notBefore: notBefore,
        notAfter: notAfter
      ).signed(for: rootKey)
      let key = try PrivateKey.generate()
      let intermediate = try CertificateTemplate(
        organization: organization, commonName: "Intermediate CA", isAuthority: true, notBefore: notBefore,
        notAfter: notAfter
      ).signed(for: key, by: (root, rootKey))
      // The key first: where it cannot be written there are no certificates that promise one.
      return [
        (.key, try key.pem()), (.certificate, try intermediate.pem()),
        (.chain, try intermediate.pem() + root.pem()), (.root, try root.pem()),
      ]
    } catch {
      throw .fileNotWritten(path: directory, reason: error.summary)
    }
  }

  private static func open(_ path: String, mode: mode_t) throws(IdentityError) -> Descriptor {
    do throws(SystemError) {
      return try Descriptor.open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, mode: mode)
    } catch {
      if error.number == EEXIST { throw .authorityExists(path: path) }
      throw .fileNotWritten(path: path, reason: error.reason)
    }
  }

  private static func write(_ text: String, to file: borrowing Descriptor, _ path: String) throws(IdentityError) {
    let raw = file.raw
    var rest = Array(text.utf8)[...]
    do throws(SystemError) {
      while !rest.isEmpty {
        let count = try system("write", path) { rest.withUnsafeBytes { Glibc.write(raw, $0.baseAddress, $0.count) } }
        rest = rest.dropFirst(count)
      }
    } catch {
      throw .fileNotWritten(path: path, reason: error.reason)
    }
  }
}
