import Foundation
import HTTP2
import Linux
import TLS
import TestSupport

@testable import GRPC

/// A certificate for a server, and the root to verify it by, as files of a directory of its own.
final class ServerFiles: Sendable {
  let directory: String
  var certificate: String { directory + "/server.pem" }
  var key: String { directory + "/server.key" }
  var root: String { directory + "/root.pem" }

  init(names: [String] = ["grpc.test"]) throws {
    directory = NSTemporaryDirectory() + "/grpc-" + UUID().uuidString
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    let (now, rootKey, leafKey) = (Timestamp.now, try PrivateKey.generate(), try PrivateKey.generate())
    let (start, end) = (now.advanced(bySeconds: -60), now.advanced(bySeconds: 3600))
    let root = try CertificateTemplate(commonName: "root", isAuthority: true, notBefore: start, notAfter: end)
      .signed(for: rootKey)
    let leaf = try CertificateTemplate(
      alternativeNames: names.map { .dns($0) }, usages: [.serverAuthentication], notBefore: start, notAfter: end
    ).signed(for: leafKey, by: (root, rootKey))
    try write(root.pem(), self.root)
    try write(leaf.pem() + root.pem(), certificate)
    try write(leafKey.pem(), key)
  }

  deinit { try? FileManager.default.removeItem(atPath: directory) }

  func write(_ text: String, _ path: String) throws { try text.write(toFile: path, atomically: true, encoding: .utf8) }
}

/// A script of `Servers` that runs until the test is over.
final class PythonServer: Sendable {
  let process: RunningProcess
  let port: UInt16
  let files: ServerFiles

  init(_ script: String, _ arguments: [String] = [], files: ServerFiles? = nil) throws {
    self.files = try files ?? ServerFiles()
    let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "Servers/\(script)").path
    let process = try RunningProcess(
      [GRPCEnvironment.python, path, self.files.certificate, self.files.key] + arguments)
    self.process = process
    var port: UInt16?
    _ = eventually(within: .seconds(30)) {
      port = process.lines.first { $0.hasPrefix("port ") }.flatMap { UInt16($0.dropFirst(5)) }
      return port != nil || !process.isRunning
    }
    guard let port else {
      let limit = Duration.seconds(30)
      throw CommandError.timedOut([script], limit, output: process.output, errors: process.errors)
    }
    self.port = port
  }

  deinit { process.kill() }

  /// The server as a client dials it: by its address, known by the name in its certificate.
  func endpoint(name: String = "grpc.test", credentials: CallCredentials = CallCredentials()) throws -> GRPCEndpoint {
    GRPCEndpoint(
      target: GRPCTarget(host: .ip(.loopback(.v4)), port: port), roots: .file(files.root),
      alternativeName: .dns(name), credentials: credentials)
  }
}

/// Runs `body` with a channel on a loop that ends with it.
func withChannel<Result: Sendable>(
  _ endpoint: GRPCEndpoint, limits: GRPCLimits = GRPCLimits(),
  _ body: @escaping @Sendable (GRPCChannel, EventLoop) async throws -> Result
) async throws -> Result {
  let loop = try EventLoop(name: "test")
  try loop.start()
  defer {
    loop.stop()
    loop.join()
  }
  return try await withCheckedThrowingContinuation { continuation in
    loop.spawn {
      let channel = GRPCChannel(endpoint, limits: limits, loop: loop, buffers: WorkBuffers())
      let result: Swift.Result<Result, any Error>
      do { result = .success(try await body(channel, loop)) } catch { result = .failure(error) }
      channel.close()
      continuation.resume(with: result)
    }
  }
}

extension GRPCChannel {
  /// The status a unary call ends with; `.ok` for an answer.
  func outcome(_ path: String, _ message: String = "", within limit: Duration = .seconds(10)) async -> GRPCStatus {
    do throws(GRPCStatus) {
      let answer = try await unary(path, Array(message.utf8), deadline: .now + limit)
      return GRPCStatus(.ok, String(decoding: answer, as: UTF8.self))
    } catch {
      return error
    }
  }
}
