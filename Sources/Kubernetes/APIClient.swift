import HTTP2
import JSON
import Linux

/// A client of one API server. Belongs to one event loop.
public final class APIClient {
  public let access: ClusterAccess
  public let loop: EventLoop
  private let channel: APIChannel

  /// Bytes taken of one answer: a page of 250 pods, each as large as etcd stores it, would be more, but none are.
  static let largestAnswer = 128 << 20
  /// Bytes taken of one event of a watch: etcd stores objects of at most 1.5 MiB, and the event wraps one.
  static let largestEvent = 8 << 20
  /// Time for one request that is no watch.
  public static let patience = Duration.seconds(30)

  public init(_ access: ClusterAccess, loop: EventLoop, buffers: WorkBuffers) {
    self.access = access
    self.loop = loop
    channel = APIChannel(access, loop: loop, buffers: buffers)
  }

  /// Ends everything; what is under way fails.
  public func close() { channel.close() }

  /// Makes a request and returns the object that answers it. Throws ``KubernetesError``.
  @discardableResult
  public func send(_ request: APIRequest, within limit: Duration = patience) async throws(KubernetesError) -> JSONValue
  {
    let call = try await begin(request, within: limit)
    return try Self.json(try await call.body(limit: Self.largestAnswer), of: "the answer to \(request)")
  }

  /// The object at `path`. Throws ``KubernetesError``.
  public func get<Object: KubernetesObject>(
    _ type: Object.Type, _ path: String, within limit: Duration = patience
  ) async throws(KubernetesError) -> Object {
    try Object(ObjectReader(try await send(APIRequest(.get, path), within: limit), subject: path))
  }

  /// Makes a request whose answer is read line by line. Throws ``KubernetesError``.
  func begin(_ request: APIRequest, within limit: Duration) async throws(KubernetesError) -> APICall {
    let call = try await channel.start(request, deadline: .now + limit)
    let status = try await call.status()
    guard (200...299).contains(status) else { throw await refusal(call, status) }
    return call
  }

  private func refusal(_ call: APICall, _ status: Int) async -> KubernetesError {
    var reason = ""
    var message = "no reason given"
    do throws(KubernetesError) {
      let body = try await call.body(limit: 64 << 10)
      if let answer = try? JSONValue.parse(body) {
        reason = String((answer["reason"]?.string ?? "").prefix(80))
        message = String((answer["message"]?.string ?? message).prefix(500))
      } else if !body.isEmpty {
        message = String(decoding: body.prefix(200), as: UTF8.self)
      }
    } catch { message = error.summary }
    return .refused(request: "\(call.request)", status: status, reason: reason, message: message)
  }

  static func json(_ bytes: [UInt8], of subject: String) throws(KubernetesError) -> JSONValue {
    do throws(JSONError) {
      return try JSONValue.parse(bytes, limits: JSONValue.Limits(bytes: largestAnswer, depth: 64))
    } catch {
      throw .notJSON(subject: subject, reason: error.summary)
    }
  }
}
