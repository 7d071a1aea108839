import Foundation

/// A machine with a real systemd, from the rig that lies beside the checkout.
public enum SystemdMachine {
  /// The rig's command, nil where it is not there.
  public static let command: String? = {
    let path = Repository.root.deletingLastPathComponent().appending(path: "shared/systemd/in-systemd").path
    return FileManager.default.isExecutableFile(atPath: path) ? path : nil
  }()

  public static var requirement: Requirement {
    Requirement(command != nil, otherwise: "needs in-systemd in ../shared/systemd")
  }
}
