import CNI
import HTTPServer
import Linux
import Logging
import Vocabulary

/// Where the CNI plugin asks: HTTP over a unix socket that only root may use (enrollment.md §8.4 and limit 12).
///
/// Every request is a task of its own, so that fifty pods that start at once wait for nothing but their own. Belongs to
/// its event loop.
public final class CNIEndpoint {
  /// For a question that does not say how long its asker waits: Istio's plugin gives up after five seconds.
  private static let usualTime = Duration.seconds(5)
  /// The answer has to be back before the plugin gives up, or nobody learns the reason.
  private static let margin = Duration.milliseconds(250)
  private static let shortest = Duration.milliseconds(250)

  private let path: String
  private let server: HTTPServer

  /// `admission` decides; `users` may ask, which is root unless a test runs as somebody else.
  public init(
    path: String, admission: any PodAdmission, users: Set<UInt32> = [0], logger: Logger, metrics: AgentMetrics? = nil,
    on loop: EventLoop
  ) throws(HTTPServerError) {
    self.path = path
    let desk = Desk(admission, logger, metrics, loop)
    server = HTTPServer(on: loop, limits: Self.limits) { request in
      let response = await desk.answer(request)
      metrics?.pluginRequests("\(response.status)").add()
      return response
    }
    do throws(SystemError) { try DurableFile.makeDirectory(Self.directory(of: path)) } catch {
      throw .cannotListen(endpoint: path, error)
    }
    try server.listen(on: .unix(path: path, mode: 0o600, users: users))
  }

  /// Accepts no more, and returns when the questions under way are answered, or after `limit`.
  public func stop(within limit: Duration) async { await server.stop(within: limit) }

  /// What the server has done.
  public var counts: HTTPServerCounts { server.counts }

  private static var limits: HTTPLimits {
    var limits = HTTPLimits()
    limits.bodyBytes = 64 << 10
    limits.connections = 512
    return limits
  }

  private static func directory(of path: String) -> String {
    path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
  }

  /// Answers questions. Used on the loop only, whatever the closure that holds it says.
  private final class Desk: @unchecked Sendable {
    private let admission: any PodAdmission
    private let logger: Logger
    private let metrics: AgentMetrics?
    private let loop: EventLoop

    init(_ admission: any PodAdmission, _ logger: Logger, _ metrics: AgentMetrics?, _ loop: EventLoop) {
      self.admission = admission
      self.logger = logger
      self.metrics = metrics
      self.loop = loop
    }

    func answer(_ request: HTTPRequest) async -> HTTPResponse {
      guard let subject = AgentQuestion.Subject(rawValue: request.path) else {
        return .text("there is no \(request.path)\n", status: 404)
      }
      guard request.method == "POST" else { return .methodNotAllowed(allow: "POST", "questions are sent with POST\n") }
      let question: AgentQuestion
      let sandbox: PodSandbox
      do throws(AgentQuestionError) {
        question = try AgentQuestion(body: request.body)
        sandbox = try PodSandbox(question)
      } catch {
        logger.warning("a request that makes no sense", metadata: ["path": "\(request.path)", "reason": "\(error)"])
        return .text("\(error)\n", status: 400)
      }
      let start = ContinuousClock.now
      let answer = await decide(subject, sandbox, until: start + Self.time(for: question))
      let took = ContinuousClock.now - start
      if answer == .captured, subject == .admit || subject == .istioAdd { metrics?.podCapture.observe(took) }
      note(subject, question, answer, took: took)
      return response(answer, to: subject)
    }

    private static func time(for question: AgentQuestion) -> Duration {
      let time = question.timeout.map { Duration.milliseconds($0) } ?? usualTime
      return max(shortest, time - margin * 2)
    }

    private func decide(
      _ subject: AgentQuestion.Subject, _ sandbox: PodSandbox, until deadline: ContinuousClock.Instant
    ) async -> AgentAnswer {
      // Whoever decides knows best what was waited for, and speaks first.
      await loop.first(
        before: deadline + margin, otherwise: AgentAnswer(PodAdmissionError.deadlineExceeded(step: "deciding"))
      ) {
        [admission] in
        do throws(PodAdmissionError) {
          switch subject {
          case .admit, .istioAdd: return AgentAnswer(try await admission.admit(sandbox, until: deadline))
          case .prove: return AgentAnswer(try await admission.prove(sandbox, until: deadline))
          case .removed:
            await admission.removed(sandbox)
            return .notInMesh(reason: "removed")
          }
        } catch { return AgentAnswer(error) }
      }
    }

    private func response(_ answer: AgentAnswer, to subject: AgentQuestion.Subject) -> HTTPResponse {
      var answer = answer
      // Istio's plugin asks only about pods that it holds to be of the mesh, and would start them on any success.
      if subject == .istioAdd, case .notInMesh(let reason) = answer {
        answer = .refused(code: "ADMISSION_NOT_IN_MESH", message: "the pod does not belong to the mesh: \(reason)")
      }
      if subject == .istioAdd, answer == .captured { return HTTPResponse(status: 200) }
      return HTTPResponse(
        status: answer.status, headers: ["content-type": "application/json"], body: .bytes(answer.body))
    }

    private func note(
      _ subject: AgentQuestion.Subject, _ question: AgentQuestion, _ answer: AgentAnswer, took duration: Duration
    ) {
      var metadata: Logger.Metadata = [
        "pod": "\(question.pod)", "asked": "\(subject.rawValue)", "took": "\(duration)",
        "netns": "\(question.networkNamespace ?? "")",
      ]
      switch answer {
      case .captured: logger.info("a pod is captured", metadata: metadata)
      case .notInMesh(let reason):
        metadata["reason"] = "\(reason)"
        logger.debug("a pod is left alone", metadata: metadata)
      case .refused(let code, let message):
        metadata["code"] = "\(code)"
        metadata["reason"] = "\(message)"
        logger.warning("a pod is refused", metadata: metadata)
      }
    }
  }
}

extension PodSandbox {
  init(_ question: AgentQuestion) throws(AgentQuestionError) {
    var addresses: [IPAddress] = []
    for text in question.addresses {
      guard let address = IPAddress(text) else { throw AgentQuestionError(reason: "`\(text)` is no IP address") }
      addresses.append(address.canonical)
    }
    self.init(
      namespace: question.podNamespace, name: question.podName, uid: question.podUID,
      containerID: question.containerID, networkNamespace: question.networkNamespace, addresses: addresses)
  }
}

extension AgentAnswer {
  init(_ outcome: PodAdmissionOutcome) {
    switch outcome {
    case .captured: self = .captured
    case .notInMesh(let reason): self = .notInMesh(reason: reason)
    }
  }

  init(_ error: PodAdmissionError) {
    let text = error.remedy.map { "\(error.summary) (\($0))" } ?? error.summary
    self = .refused(code: error.code, message: text)
  }
}

extension EventLoop {
  /// What `operation` returns, or `late` at the deadline; the operation then runs on by itself.
  fileprivate func first<Value: Sendable>(
    before deadline: ContinuousClock.Instant, otherwise late: Value, _ operation: @escaping () async -> Value
  ) async -> Value {
    await withUnsafeContinuation { (continuation: UnsafeContinuation<Value, Never>) in
      let race = Race(continuation)
      let timer = schedule(at: deadline) { race.finish(late) }
      spawn {
        race.finish(await operation())
        timer.cancel()
      }
    }
  }
}

private final class Race<Value: Sendable> {
  private var continuation: UnsafeContinuation<Value, Never>?

  init(_ continuation: UnsafeContinuation<Value, Never>) { self.continuation = continuation }

  func finish(_ value: Value) {
    continuation?.resume(returning: value)
    continuation = nil
  }
}
