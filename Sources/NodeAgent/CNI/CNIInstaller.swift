import CNI
import Glibc
import Linux

/// Puts the plugin's program, the kubeconfig and the network configuration in place, in this order, so that no runtime
/// is ever told of a program that is not there; and takes them away in the other (enrollment.md §9).
///
/// Its methods block. Each pass looks at everything anew and writes only what differs, so it can be repeated at will.
struct CNIInstaller: Sendable {
  struct Report: Equatable, Sendable {
    /// What was not as it should be and is now.
    var changed: [String] = []
    var problems: [CNIInstallationError] = []
    /// The file the runtime uses.
    var primary: String?

    /// New pods pass through the plugin.
    var isInstalled: Bool { !problems.contains(where: \.isFatal) }
  }

  let settings: CNISettings

  /// A plugin is some ten megabytes.
  private static let largestProgram = 256 << 20
  private static let programMode: mode_t = 0o755

  // MARK: Installing

  func install() -> Report {
    var report = Report()
    do throws(CNIInstallationError) {
      if try installProgram() { report.changed.append(settings.installedProgram) }
    } catch { report.problems.append(error) }
    do throws(CNIInstallationError) {
      if try writeKubeconfig() { report.changed.append(settings.kubeconfigPath) }
    } catch { report.problems.append(error) }
    // Without its program the configuration would keep every pod from starting, also those outside the mesh.
    guard report.isInstalled else { return report }
    configure(&report) { InstallationPlan.install(settings.entry, settings.mode, in: $0) }
    return report
  }

  private func installProgram() throws(CNIInstallationError) -> Bool {
    do throws(SystemError) {
      guard let wanted = try DurableFile.read(settings.program, limit: Self.largestProgram) else {
        throw SystemError("open", ENOENT, subject: settings.program)
      }
      removeLeftovers(in: settings.binaryDirectory)
      let path = settings.installedProgram
      // One that is too long or no file at all is simply another one.
      let present = try? DurableFile.read(path, limit: Self.largestProgram)
      if present == wanted, DurableFile.mode(of: path) == Self.programMode { return false }
      try DurableFile.write(path, wanted, mode: Self.programMode)
      return true
    } catch {
      throw error.subject == settings.program ? .programMissing(settings.program) : .program(error)
    }
  }

  private func writeKubeconfig() throws(CNIInstallationError) -> Bool {
    guard let credentials = settings.credentials else { return false }
    let wanted = try kubeconfig(credentials)
    let path = settings.kubeconfigPath
    do throws(SystemError) {
      try DurableFile.makeDirectory(settings.runDirectory)
      let present = try? DurableFile.read(path)
      if present == wanted, DurableFile.mode(of: path) == credentials.mode { return false }
      try DurableFile.write(path, wanted, mode: credentials.mode)
      return true
    } catch { throw .kubeconfig(error) }
  }

  private func kubeconfig(_ credentials: CNISettings.Credentials) throws(CNIInstallationError) -> [UInt8] {
    func content(_ path: String) throws(CNIInstallationError) -> [UInt8] {
      do throws(SystemError) {
        guard let bytes = try DurableFile.read(path), !bytes.isEmpty else {
          throw SystemError("read", ENOENT, subject: path)
        }
        return bytes
      } catch { throw .credentials(error.summary) }
    }
    let tokenFile = "\(credentials.directory)/token"
    guard let token = String(validating: try content(tokenFile), as: UTF8.self)?.split(whereSeparator: \.isWhitespace),
      token.count == 1, let token = token.first
    else { throw .credentials("\(tokenFile) holds no token") }
    let authorities =
      credentials.skipsVerification
      ? nil : try content(credentials.authoritiesFile ?? "\(credentials.directory)/ca.crt")
    return AgentKubeconfig(
      host: credentials.host, port: credentials.port, scheme: credentials.scheme, authorities: authorities,
      token: String(token)
    ).bytes
  }

  // MARK: The configuration directory

  private func configure(_ report: inout Report, _ plan: ([InstallationPlan.File]) -> InstallationPlan) {
    let directory = settings.configurationDirectory
    do throws(SystemError) {
      removeLeftovers(in: directory)
      let plan = plan(try files(in: directory, &report))
      report.primary = plan.primary
      report.problems += plan.problems.map {
        .configuration(file: path($0.file), reason: $0.reason, isFatal: $0.isFatal)
      }
      for step in plan.steps {
        do throws(SystemError) { try perform(step) } catch {
          // The next step may rely on this one.
          report.problems.append(.writing(error))
          return
        }
        report.changed.append(describe(step))
      }
    } catch { report.problems.append(.directory(error)) }
  }

  private func files(in directory: String, _ report: inout Report) throws(SystemError) -> [InstallationPlan.File] {
    var files: [InstallationPlan.File] = []
    for name in try DurableFile.names(in: directory).sorted() {
      let base =
        name.hasSuffix(InstallationPlan.savedSuffix) ? name.dropLast(InstallationPlan.savedSuffix.count) : name[...]
      guard NetworkConfiguration.form(ofFile: String(base)) != nil else { continue }
      do throws(SystemError) {
        // One that went away meanwhile does not count.
        guard let bytes = try DurableFile.read(path(name)) else { continue }
        files.append(InstallationPlan.File(name: name, bytes: bytes))
      } catch {
        report.problems.append(.configuration(file: path(name), reason: error.summary, isFatal: false))
      }
    }
    return files
  }

  private func perform(_ step: InstallationPlan.Step) throws(SystemError) {
    switch step {
    case .write(let file, let bytes, let like):
      let mode = like.flatMap { DurableFile.mode(of: path($0)) } ?? settings.fileMode
      try DurableFile.write(path(file), bytes, mode: mode)
    case .rename(let from, let to): try DurableFile.move(path(from), to: path(to))
    case .remove(let file): try DurableFile.remove(path(file))
    }
  }

  private func describe(_ step: InstallationPlan.Step) -> String {
    switch step {
    case .write(let file, _, _): path(file)
    case .rename(let from, let to): "\(path(from)) → \(to)"
    case .remove(let file): "\(path(file)) removed"
    }
  }

  private func path(_ name: String) -> String {
    name.isEmpty ? settings.configurationDirectory : "\(settings.configurationDirectory)/\(name)"
  }

  /// What a run that was killed while it wrote has left.
  private func removeLeftovers(in directory: String) {
    guard let names = try? DurableFile.names(in: directory) else { return }
    for name in names where name.contains(DurableFile.temporaryMark) { unlink("\(directory)/\(name)") }
  }

  // MARK: Removing

  /// Takes everything away again: first the entry, so that no runtime is told of a program that is gone. One thing that
  /// cannot be removed keeps no other in place.
  func remove() -> Report {
    var report = Report()
    configure(&report) { InstallationPlan.remove(settings.mode, from: $0) }
    let isReferenced = report.problems.contains { if case .writing = $0 { true } else { false } }
    for path in [settings.kubeconfigPath] + (isReferenced ? [] : [settings.installedProgram]) {
      guard DurableFile.mode(of: path) != nil else { continue }
      do throws(SystemError) {
        try DurableFile.remove(path)
        report.changed.append("\(path) removed")
      } catch { report.problems.append(.program(error)) }
    }
    return report
  }
}
