/// The protocol by which a program knows all objects of a kind: list, then watch from there, and anew when that fails
/// (enrollment.md §3). A value without I/O: events in, effects out.
struct ListWatch<Object: KubernetesObject> {
  enum Event {
    case start
    case page(ObjectPage<Object>)
    case listFailed(KubernetesError)
    case change(WatchEvent<Object>)
    /// The watch is over; nil: as servers end them after their time.
    case watchEnded(KubernetesError?)
    case waited
  }

  enum Effect: Equatable {
    case list(ListRequest)
    case watch(from: String)
    case wait(Duration)
    case deliver(ObjectChange<Object>)
    case report(KubernetesError)
  }

  private enum Step {
    case list(ListRequest)
    case watch
  }

  private let jitter: () -> Double
  private var backOff = BackOff()
  private var step = Step.list(.cached)
  /// The newest version seen; nil before the first list.
  private var version: String?
  private var collected = ObjectPage<Object>()
  private var heardOfWatch = false

  init(jitter: @escaping () -> Double = { .random(in: 0...1) }) { self.jitter = jitter }

  mutating func receive(_ event: Event) -> [Effect] {
    switch event {
    case .start: return [proceed()]
    case .waited: return [proceed()]
    case .page(let page): return take(page)
    case .listFailed(let error):
      collected = ObjectPage()
      // The version, or a page that was announced, is not to be had any more: everything, as it is now.
      if error.isGone || error.status == 504 {
        step = .list(.consistent)
      } else {
        step = .list(firstPage)
      }
      return [.report(error), .wait(backOff.delay(jitter: jitter()))]
    case .change(let change): return take(change)
    case .watchEnded(nil) where heardOfWatch:
      step = .watch
      return [proceed()]
    case .watchEnded(let error):
      step = error.map(Self.needsList) == true ? .list(firstPage) : .watch
      if error?.isGone == true { step = .list(.consistent) }
      return (error.map { [.report($0)] } ?? []) + [.wait(backOff.delay(jitter: jitter()))]
    }
  }

  /// Not older than what is known already, so that time never goes backwards; at first, whatever the server has at hand.
  private var firstPage: ListRequest { version.map { .atLeast($0) } ?? .cached }

  private mutating func proceed() -> Effect {
    switch step {
    case .list(let request): return .list(request)
    case .watch:
      heardOfWatch = false
      return .watch(from: version ?? "")
    }
  }

  private mutating func take(_ page: ObjectPage<Object>) -> [Effect] {
    collected.objects += page.objects
    collected.unreadable.formUnion(page.unreadable)
    var effects = page.problems.map(Effect.report)
    if let token = page.continueToken {
      effects.append(.list(.next(token)))
      return effects
    }
    version = page.resourceVersion
    effects.append(.deliver(.replaced(collected.objects, unreadable: collected.unreadable)))
    collected = ObjectPage()
    backOff.reset()
    step = .watch
    effects.append(proceed())
    return effects
  }

  private mutating func take(_ change: WatchEvent<Object>) -> [Effect] {
    switch change {
    case .changed(let object):
      heard(object.meta.resourceVersion)
      return [.deliver(.changed(object))]
    case .deleted(let reference, let uid, let version):
      heard(version)
      return [.deliver(.deleted(reference, uid: uid))]
    case .bookmark(let version):
      heard(version)
      return []
    case .unreadable(let error, let version):
      heard(version)
      return [.report(error)]
    case .failed(let error): return receive(.watchEnded(error))
    }
  }

  private mutating func heard(_ version: String) {
    if !version.isEmpty { self.version = version }
    heardOfWatch = true
    backOff.reset()
  }

  /// A stream that could not be read may have said something that is lost now.
  private static func needsList(after error: KubernetesError) -> Bool {
    switch error {
    case .notJSON, .tooLarge, .malformed: true
    case .configuration, .credentials, .unreachable, .timedOut, .refused: false
    }
  }
}

/// What the consumer of a ``ResourceWatcher`` is told.
public enum ObjectChange<Object: KubernetesObject>: Equatable, Sendable {
  /// All there are. Those that are `unreadable` are there too, and stay what they were.
  case replaced([Object], unreadable: Set<ObjectReference>)
  case changed(Object)
  /// The one of this UID; empty where the server did not say it. Another one may have the name by now.
  case deleted(ObjectReference, uid: String)
}

/// Where a list begins.
enum ListRequest: Equatable {
  /// What the server has at hand, which may be somewhat old: cheap for servers of many nodes.
  case cached
  /// As new as this version or newer.
  case atLeast(String)
  /// As new as can be.
  case consistent
  /// The page that follows.
  case next(String)

  /// The parameters of the request (the API's `resourceVersion`, `resourceVersionMatch` and `continue`).
  var query: [(name: String, value: String)] {
    switch self {
    case .cached: [("resourceVersion", "0"), ("resourceVersionMatch", "NotOlderThan")]
    case .atLeast(let version): [("resourceVersion", version), ("resourceVersionMatch", "NotOlderThan")]
    case .consistent: []
    case .next(let token): [("continue", token)]
    }
  }
}
