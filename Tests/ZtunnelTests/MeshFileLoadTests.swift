import Foundation
import Linux
import Mesh
import Testing

@testable import Ztunnel

@Suite("Mesh file: the first load")
struct MeshFileLoadTests {
  /// Why a document is not loaded, nil when it is.
  private func loadError(_ source: LocalMeshSource) -> MeshFileSourceError? {
    do throws(MeshFileSourceError) {
      _ = try MeshFileReader.load(source)
      return nil
    } catch {
      return error
    }
  }

  /// Runs `body` with the path of a file that holds `content`.
  private func withFile(_ content: Data, _ body: (String) throws -> Void) throws {
    let path = NSTemporaryDirectory() + "mesh-" + UUID().uuidString + ".yaml"
    try content.write(to: URL(fileURLWithPath: path))
    defer { try? FileManager.default.removeItem(atPath: path) }
    try body(path)
  }

  @Test("every problem of a file is told as file, line and column")
  func places() throws {
    let text = """
      workloads:
      - name: cart
        namespace: shop
        workloadIps: ["10.9.0.300"]
        services: {}
        colour: red

      """
    try withFile(Data(text.utf8)) { path in
      let error = try #require(loadError(.file(path)))
      #expect(error.code == "MESH_FILE_INVALID")
      #expect(error.reasons.count == 2)
      #expect(error.reasons.contains { $0.hasPrefix("\(path):4:") && $0.contains("workloadIps") })
      #expect(error.reasons.contains { $0.hasPrefix("\(path):6:") && $0.contains("colour") })
      #expect(error.reasons.allSatisfy { error.summary.contains($0) })
    }
  }

  @Test("text that is no YAML is told with its place")
  func syntax() throws {
    let error = try #require(loadError(.inline("workloads:\n  - [1, 2\n")))
    #expect(error.code == "MESH_FILE_SYNTAX")
    #expect(error.reasons.first?.hasPrefix("LOCAL_XDS:") == true)
  }

  @Test("a missing file is told with its path and what to check")
  func missing() throws {
    let error = try #require(loadError(.file("/nonexistent/mesh.yaml")))
    #expect(error.code == "MESH_FILE_UNREADABLE")
    #expect(error.summary.contains("/nonexistent/mesh.yaml"))
    #expect(error.summary.contains("No such file"))
    #expect(error.remedy != nil)
  }

  @Test("a directory, a pipe and a device are no mesh files, and none of them blocks")
  func special() throws {
    let pipe = NSTemporaryDirectory() + "pipe-" + UUID().uuidString
    #expect(mkfifo(pipe, 0o600) == 0)
    defer { unlink(pipe) }
    for path in ["/tmp", pipe, "/dev/zero"] {
      #expect(loadError(.file(path)) == .notRegularFile(path: path))
    }
  }

  @Test("a blank file is not taken for an empty mesh", arguments: ["", "\n", " \t\r\n"])
  func blank(_ text: String) throws {
    try withFile(Data(text.utf8)) { path in #expect(loadError(.file(path)) == .empty(source: path)) }
  }

  @Test("an empty mesh can be written", arguments: ["{}", "workloads: []", "# nothing yet\n{}\n"])
  func emptyMesh(_ text: String) throws {
    #expect(try MeshFileReader.load(.inline(text)).document == MeshDocument())
  }

  @Test("bytes that are no text are refused")
  func notText() throws {
    try withFile(Data([0x77, 0xff, 0xfe])) { path in #expect(loadError(.file(path))?.code == "MESH_FILE_NOT_UTF8") }
  }

  @Test("a file past the limit is refused without being read whole")
  func tooLarge() throws {
    try withFile(Data("#".utf8)) { path in
      #expect(truncate(path, 1 << 40) == 0)
      #expect(loadError(.file(path))?.code == "MESH_FILE_TOO_LARGE")
    }
  }

  @Test("a source whose first version has an error is not made")
  func startUp() throws {
    let loop = try EventLoop(name: "control")
    #expect(throws: MeshFileSourceError.self) {
      try MeshFileSource(
        .inline("workloads: 7"), into: MeshState(settings: MeshSettings()) { _, _ in }, on: loop)
    }
  }
}
