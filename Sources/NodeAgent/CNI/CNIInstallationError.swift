import Linux
import Vocabulary

/// What keeps the CNI plugin from being installed completely.
public enum CNIInstallationError: CodedError, Equatable {
  /// The plugin's program is not where it should be copied from.
  case programMissing(String)
  case program(SystemError)
  /// The directory of network configurations cannot be read.
  case directory(SystemError)
  /// A file there cannot be used; `isFatal` when new pods are not captured because of it.
  case configuration(file: String, reason: String, isFatal: Bool)
  case writing(SystemError)
  /// The service account's files are not as they should be.
  case credentials(String)
  case kubeconfig(SystemError)

  /// True when new pods could start without being asked about.
  public var isFatal: Bool {
    switch self {
    case .configuration(_, _, let isFatal): isFatal
    // Our own plugin needs no kubeconfig.
    case .credentials, .kubeconfig: false
    case .programMissing, .program, .directory, .writing: true
    }
  }

  public var code: String {
    switch self {
    case .programMissing: "CNI_PROGRAM_MISSING"
    case .program: "CNI_PROGRAM_NOT_INSTALLED"
    case .directory: "CNI_DIRECTORY_UNREADABLE"
    case .configuration: "CNI_CONFIGURATION_UNUSABLE"
    case .writing: "CNI_CONFIGURATION_NOT_WRITTEN"
    case .credentials: "CNI_CREDENTIALS_UNUSABLE"
    case .kubeconfig: "CNI_KUBECONFIG_NOT_WRITTEN"
    }
  }

  public var summary: String {
    switch self {
    case .programMissing(let path): "there is no plugin at \(path) to install"
    case .program(let error): "the plugin's program could not be installed: \(error.summary)"
    case .directory(let error): "the network configurations cannot be read: \(error.summary)"
    case .configuration(let file, let reason, _): "\(file): \(reason)"
    case .writing(let error): "the network configuration could not be written: \(error.summary)"
    case .credentials(let reason): "no kubeconfig was written: \(reason)"
    case .kubeconfig(let error): "the kubeconfig could not be written: \(error.summary)"
    }
  }

  public var remedy: String? {
    switch self {
    case .programMissing: "set AMBIENT_CNI_PROGRAM to the plugin's path in the image"
    case .program:
      "the node's plugin directory must be mounted writable at MOUNTED_CNI_BIN_DIR; its path differs by platform"
    case .directory:
      "the node's configuration directory must be mounted at MOUNTED_CNI_NET_DIR; its path differs by platform"
    case .configuration(_, _, let isFatal):
      isFatal
        ? "install the cluster's network plugin, or correct the file; it is watched" : "correct the file; it is watched"
    case .writing: "the node's configuration directory must be mounted writable at MOUNTED_CNI_NET_DIR"
    case .credentials, .kubeconfig: nil
    }
  }

  /// The value of `result` in `istio_cni_installs_total` (enrollment.md §9.1).
  var metricResult: String {
    switch self {
    case .programMissing, .program: "COPY_BINARIES_FAILURE"
    case .credentials, .kubeconfig: "CREATE_KUBECONFIG_FAILURE"
    case .directory, .configuration, .writing: "CREATE_CNI_CONFIG_FAILURE"
    }
  }
}
