import Linux
public import Logging
import Mesh
import Vocabulary

/// The mesh as a local file describes it, followed as the file changes (xds.md §7).
///
/// A new version is applied as its difference to the one in force; a version with an error is logged with its reasons
/// and changes nothing. It belongs to one loop's thread once it is started; files are read and parsed on a thread of
/// their own, so that a large one delays nothing else on the loop.
public final class MeshFileSource {
  /// Why the latest version of the file is not in force; nil when it is.
  public private(set) var latestError: MeshFileSourceError? {
    didSet { latestErrorChanged?(latestError) }
  }
  /// Told of every change of ``latestError``, on the loop.
  var latestErrorChanged: ((MeshFileSourceError?) -> Void)?

  private let source: LocalMeshSource
  private let period: Duration
  private unowned let loop: EventLoop
  private let log: Logger
  private let state: MeshState

  private(set) var document: MeshDocument {
    didSet { documentChanged?(document) }
  }
  /// Told of every version that is put in force after the first, on the loop.
  var documentChanged: ((MeshDocument) -> Void)?
  private var firstDelta: MeshDelta?
  private var signature: FileSignature?
  private var watcher: FileWatcher?
  private var reportedTrouble: SystemError?
  private var isLoading = false
  private var isOutdated = false

  /// Reads the first version, on the caller's thread, and publishes nothing yet.
  ///
  /// `period` is how often the file is looked at in case events are lost. Throws ``MeshFileSourceError``: then the
  /// proxy knows nothing of the mesh and must not start.
  public init(
    _ source: LocalMeshSource, into state: MeshState, period: Duration = .seconds(10), on loop: EventLoop,
    log: Logger = Logger(label: "ztunnel::mesh_file")
  ) throws(MeshFileSourceError) {
    let version = try MeshFileReader.load(source)
    self.source = source
    self.period = period
    self.loop = loop
    self.log = log
    self.state = state
    document = version.document
    signature = version.signature
    firstDelta = state.load(version.document.changes())
  }

  deinit { watcher?.cancel() }

  /// Publishes the first version, before it returns, and then every later one. On the loop; once.
  public func start() {
    guard let delta = firstDelta else { return }
    firstDelta = nil
    logInForce("mesh loaded")
    state.publish(delta)
    guard case .file(let path) = source else { return }
    let watcher = FileWatcher(path, known: signature, period: period, on: loop) { [weak self] in self?.changed() }
    self.watcher = watcher
    watcher.start()
    reportTrouble()
  }

  /// Publishes nothing any more. On the loop. Safe to call twice.
  public func stop() {
    watcher?.cancel()
    watcher = nil
  }

  /// Has the file read now, without waiting for an event. On the loop.
  public func reread() {
    if watcher != nil { changed() }
  }

  private func changed() {
    reportTrouble()
    isOutdated = true
    guard !isLoading else { return }
    isLoading = true
    let source = source
    loop.spawn { [weak self] in
      while self?.takeOutdated() == true {
        // Detached, because a plain task would run on this very loop.
        let result = await Task.detached(priority: .medium) { () -> Result<MeshFileVersion, MeshFileSourceError> in
          do throws(MeshFileSourceError) {
            return .success(try MeshFileReader.load(source))
          } catch {
            return .failure(error)
          }
        }.value
        self?.received(result)
      }
    }
  }

  /// True when there is a version to be read; false ends the reading.
  private func takeOutdated() -> Bool {
    isLoading = isOutdated && watcher != nil
    isOutdated = false
    return isLoading
  }

  private func received(_ result: Result<MeshFileVersion, MeshFileSourceError>) {
    guard watcher != nil else { return }
    switch result {
    case .success(let version): put(version.document)
    case .failure(let error): refuse(error)
    }
  }

  private func put(_ new: MeshDocument) {
    let wasRefused = latestError != nil
    latestError = nil
    let delta = state.load(new.changes(from: document))
    document = new
    guard !delta.isEmpty else {
      if wasRefused { logInForce("mesh file is valid again, and says what is in force") }
      return
    }
    logInForce("mesh reloaded", delta)
    state.publish(delta)
  }

  private func refuse(_ error: MeshFileSourceError) {
    // Once: a file that is looked at again and again is the same news.
    guard latestError != error else { return }
    latestError = error
    log.error(
      "mesh file not loaded, the last good version stays in force", error: error, metadata: ["path": "\(name)"])
  }

  private var name: String {
    switch source {
    case .file(let path): path
    case .inline: MeshFileReader.inlineName
    }
  }

  private func logInForce(_ message: Logger.Message, _ delta: MeshDelta? = nil) {
    let snapshot = state.snapshot
    var metadata: Logger.Metadata = [
      "path": "\(name)", "workloads": "\(snapshot.workloadCount)", "services": "\(snapshot.serviceCount)",
      "policies": "\(snapshot.policyCount)",
    ]
    if let delta {
      metadata["workloads_changed"] = "\(delta.changedWorkloads.count + delta.removedWorkloads.count)"
      metadata["services_changed"] = "\(delta.changedServices.count + delta.removedServices.count)"
      metadata["policies_changed"] = "\(delta.changedPolicies.count)"
    }
    log.info(message, metadata: metadata)
  }

  private func reportTrouble() {
    guard let trouble = watcher?.trouble else {
      reportedTrouble = nil
      return
    }
    guard trouble != reportedTrouble else { return }
    reportedTrouble = trouble
    log.warning(
      "mesh file is not watched, changes are noticed late", error: trouble,
      metadata: ["path": "\(name)", "looked_at_every": "\(DurationText.describe(period))"])
  }
}
