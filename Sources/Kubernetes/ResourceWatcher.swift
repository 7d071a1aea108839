import JSON
import Linux

/// Keeps its consumer informed of all objects of a kind, through whatever befalls the server. Belongs to one event loop.
public final class ResourceWatcher<Object: KubernetesObject> {
  private let client: APIClient
  private let selection: [(name: String, value: String)]
  private let pageSize: Int
  private let deliver: (ObjectChange<Object>) -> Void
  private let report: (KubernetesError) -> Void
  private var machine = ListWatch<Object>()
  private var call: APICall?
  private var isStopped = false

  /// `fieldSelector` is the API's, such as `spec.nodeName=web`. Changes go to `deliver` and problems to `report`, on the
  /// loop.
  public init(
    _ client: APIClient, fieldSelector: String? = nil, pageSize: Int = 250,
    deliver: @escaping (ObjectChange<Object>) -> Void, report: @escaping (KubernetesError) -> Void
  ) {
    self.client = client
    selection = fieldSelector.map { [("fieldSelector", $0)] } ?? []
    self.pageSize = pageSize
    self.deliver = deliver
    self.report = report
  }

  /// Begins, and goes on until ``stop()``.
  public func start() {
    client.loop.spawn { [self] in await run() }
  }

  /// Nothing is delivered any more.
  public func stop() {
    isStopped = true
    call?.cancel()
  }

  private func run() async {
    var effects = machine.receive(.start)
    while !isStopped {
      guard let event = await perform(effects), !isStopped else { return }
      effects = machine.receive(event)
    }
  }

  /// Does what is asked; the last effect is the one that takes time. Nil when stopped.
  private func perform(_ effects: [ListWatch<Object>.Effect]) async -> ListWatch<Object>.Event? {
    var effects = effects
    while !isStopped {
      var following: [ListWatch<Object>.Effect] = []
      for effect in effects {
        switch effect {
        case .deliver(let change): deliver(change)
        case .report(let error): report(error)
        case .wait(let delay):
          await client.loop.sleep(for: delay)
          return .waited
        case .list(let request): return await list(request)
        case .watch(let version):
          switch await watch(from: version) {
          case .ended(let error): return .watchEnded(error)
          case .overtaken(let effects): following = effects
          }
        }
      }
      if following.isEmpty { return nil }
      effects = following
    }
    return nil
  }

  private func list(_ page: ListRequest) async -> ListWatch<Object>.Event {
    let query = selection + [("limit", "\(pageSize)")] + page.query
    do throws(KubernetesError) {
      let answer = try await client.send(APIRequest(.get, Object.collection, query: query))
      return .page(try ObjectPage(answer))
    } catch {
      return .listFailed(error)
    }
  }

  private enum WatchOutcome {
    case ended(KubernetesError?)
    /// What an event of the watch asks for instead of it.
    case overtaken([ListWatch<Object>.Effect])
  }

  private func watch(from version: String) async -> WatchOutcome {
    // Servers end watches after this time; spread, so that they do not all end together.
    let seconds = Int.random(in: 300...600)
    let query =
      selection + [
        ("watch", "1"), ("resourceVersion", version), ("allowWatchBookmarks", "true"), ("timeoutSeconds", "\(seconds)"),
      ]
    do throws(KubernetesError) {
      let call = try await client.begin(
        APIRequest(.get, Object.collection, query: query), within: .seconds(seconds + 30))
      self.call = call
      defer {
        call.cancel()
        self.call = nil
      }
      while let line = try await call.line(limit: APIClient.largestEvent) {
        if isStopped { return .ended(nil) }
        if line.isEmpty { continue }
        let effects = machine.receive(.change(try WatchEvent(line: line)))
        for effect in effects {
          switch effect {
          case .deliver(let change): deliver(change)
          case .report(let error): report(error)
          case .wait, .list, .watch: return .overtaken([effect])
          }
        }
      }
      return .ended(nil)
    } catch {
      return .ended(error)
    }
  }
}
