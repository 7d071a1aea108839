import Glibc
import Linux
import Mesh

/// One version of the mesh file.
struct MeshFileVersion: Sendable {
  let document: MeshDocument
  /// The file it was read from; nil for an inline document.
  let signature: FileSignature?
}

/// Reads and parses a mesh from where it is kept. Blocks; safe from any thread.
enum MeshFileReader {
  /// How an inline document is called in errors.
  static let inlineName = "LOCAL_XDS"

  /// Throws ``MeshFileSourceError``.
  static func load(_ source: LocalMeshSource) throws(MeshFileSourceError) -> MeshFileVersion {
    switch source {
    case .inline(let document):
      return MeshFileVersion(document: try parse(Array(document.utf8), inlineName), signature: nil)
    case .file(let path):
      let (bytes, signature) = try read(path)
      return MeshFileVersion(document: try parse(bytes, path), signature: signature)
    }
  }

  private static func parse(_ bytes: [UInt8], _ name: String) throws(MeshFileSourceError) -> MeshDocument {
    guard bytes.contains(where: { !isBlank($0) }) else { throw .empty(source: name) }
    do throws(MeshFileError) {
      return try MeshDocument.parse(bytes, source: name)
    } catch {
      throw .invalid(source: name, error)
    }
  }

  private static func isBlank(_ byte: UInt8) -> Bool {
    byte == UInt8(ascii: " ") || (UInt8(ascii: "\t")...UInt8(ascii: "\r")).contains(byte)
  }

  private static func read(_ path: String) throws(MeshFileSourceError) -> ([UInt8], FileSignature) {
    let content: ([UInt8], FileSignature)?
    do throws(SystemError) {
      content = try readRegular(path)
    } catch {
      throw .unreadable(path: path, reason: .init(error))
    }
    guard let content else { throw .notRegularFile(path: path) }
    return content
  }

  /// Nil when the path leads to something else than a regular file.
  private static func readRegular(_ path: String) throws(SystemError) -> ([UInt8], FileSignature)? {
    // Without blocking: opening a pipe would wait for its writer.
    let file = try Descriptor.open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY)
    let raw = file.raw
    var status = stat()
    try system("fstat", path) { fstat(raw, &status) }
    guard status.st_mode & S_IFMT == S_IFREG else { return nil }
    return (try readAll(raw, path), FileSignature(status))
  }

  /// One byte more than is accepted tells a file that is too large from one that just fits.
  private static func readAll(_ raw: CInt, _ path: String) throws(SystemError) -> [UInt8] {
    let limit = MeshDocument.maximumSize + 1
    let step = 256 << 10
    var bytes: [UInt8] = []
    while bytes.count < limit {
      let wanted = min(step, limit - bytes.count)
      var part = [UInt8](repeating: 0, count: wanted)
      let count = try system("read", path) { Glibc.read(raw, &part, wanted) }
      if count == 0 { break }
      bytes += part[..<count]
    }
    return bytes
  }
}
