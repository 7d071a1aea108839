import JSON
import Mesh
import Vocabulary

/// What a `/config_dump` says, ours or that of Istio's ztunnel: the mesh, and the pods that the ztunnel serves.
public struct DumpedMesh: Sendable {
  public let mesh: MeshSnapshot
  public let served: ServedPods

  /// Why a dump is not read.
  public enum Failure: CodedError {
    case notJSON(source: String, JSONError)
    case notADump(source: String)
    case mesh(MeshFileError)

    public var code: String {
      switch self {
      case .notJSON: "DUMP_NOT_JSON"
      case .notADump: "DUMP_NOT_A_DUMP"
      case .mesh(let error): error.code
      }
    }

    public var summary: String {
      switch self {
      case .notJSON(let source, let error): "\(source) is no JSON: \(error.summary)"
      case .notADump(let source): "\(source) has neither workloads nor services"
      case .mesh(let error): error.summary
      }
    }

    public var remedy: String? {
      switch self {
      case .notJSON, .notADump:
        "make one with: curl -s http://localhost:15000/config_dump, or istioctl ztunnel-config all -o json"
      case .mesh(let error): error.remedy
      }
    }
  }

  static let mostBytes = 256 << 20

  /// Reads the bytes of a dump; `source` names it in errors. Throws ``Failure``.
  public init(_ bytes: [UInt8], source: String) throws(Failure) {
    var parts = MeshDocument.DumpedParts()
    var config = JSON.JSONValue.null
    var pods = JSON.JSONValue.null
    do throws(JSONError) {
      // Certificates and the like are passed over.
      let limits = JSON.JSONValue.Limits(bytes: Self.mostBytes)
      for (key, value) in try JSON.JSONValue.sourceOfMembers(bytes, limits: limits) {
        switch key {
        case "workloads": parts.workloads = Array(value)
        case "services": parts.services = Array(value)
        case "policies": parts.policies = Array(value)
        case "config": config = try JSON.JSONValue.parse(value, limits: limits)
        case "workloadState": pods = try JSON.JSONValue.parse(value, limits: limits)
        default: break
        }
      }
    } catch { throw .notJSON(source: source, error) }
    guard !parts.workloads.isEmpty || !parts.services.isEmpty else { throw .notADump(source: source) }
    let node = config["localNode"]?.string.flatMap { $0.isEmpty ? nil : $0 }
    let settings = MeshSettings(
      network: config["network"]?.string ?? "", localNode: node)
    do throws(MeshFileError) {
      mesh = MeshSnapshot(document: try MeshDocument.parse(parts, source: source), settings: settings)
    } catch { throw .mesh(error) }
    var found: [ServedPods.Name: Bool] = [:]
    for member in pods.object?.members ?? [] {
      let info = member.value["info"]
      guard let name = info?["name"]?.string, let namespace = info?["namespace"]?.string else { continue }
      found[.init(namespace: namespace, name: name)] = member.value["state"]?.string == "Up"
    }
    // Without the pods' states nothing can be said about who is missing from them.
    served = ServedPods(pods: found, node: pods.isNull ? nil : node)
  }
}
