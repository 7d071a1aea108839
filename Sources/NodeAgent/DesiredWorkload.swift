import ZDS

/// One workload as its operator wants it.
public struct DesiredWorkload: Equatable, Sendable {
  public let uid: WorkloadUID
  public let info: WorkloadInfo
  public let location: NamespaceLocation
  /// False: known, but kept out of the mesh; rules that are found inside are removed.
  public let inMesh: Bool
  public let annotations: CaptureAnnotations

  public init(
    uid: WorkloadUID, info: WorkloadInfo, location: NamespaceLocation, inMesh: Bool = true,
    annotations: CaptureAnnotations = .init()
  ) {
    self.uid = uid
    self.info = info
    self.location = location
    self.inMesh = inMesh
    self.annotations = annotations
  }

  /// The same workload, out of the mesh.
  var outside: DesiredWorkload {
    DesiredWorkload(uid: uid, info: info, location: location, inMesh: false, annotations: annotations)
  }
}
