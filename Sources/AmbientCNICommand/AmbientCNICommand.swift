import CNI
import CPluginStart
import Glibc

/// The chained CNI plugin: reads what the runtime says, asks the node agent, answers the runtime.
@main
struct AmbientCNICommand {
  static func main() {
    signal(SIGPIPE, SIG_IGN)
    let variables = Self.variables
    var input: [UInt8] = []
    var result: PluginCall.Output
    do throws(CNIError) {
      // VERSION of old runtimes comes without input, and a person at a terminal has none.
      if variables["CNI_COMMAND"] != nil { input = try StandardInput.read(limit: PluginConfiguration.largestInput) }
      let call = try PluginCall(variables: variables, input: input)
      switch try call.begin(isOwnNamespace: Self.isOwnNamespace) {
      case .finish(let output): result = output
      case .ask(let inquiry): result = try call.conclude(inquiry, AgentConnection.ask(inquiry))
      }
    } catch {
      result = PluginCall.failure(error, variables: variables, input: input)
    }
    if let note = result.note { Self.write(Array("ambient-cni: \(note)\n".utf8), to: STDERR_FILENO) }
    let isWritten = Self.write(result.output, to: STDOUT_FILENO)
    exit(isWritten ? result.status : 1)
  }

  private static var variables: [String: String] {
    var values: [String: String] = [:]
    for name in ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"] {
      if let value = getenv(name) { values[name] = String(cString: value) }
    }
    return values
  }

  private static func isOwnNamespace(_ path: String) -> Bool {
    var given = stat()
    var own = stat()
    guard stat(path, &given) == 0, stat("/proc/self/ns/net", &own) == 0 else { return false }
    return given.st_dev == own.st_dev && given.st_ino == own.st_ino
  }

  /// False when not everything was taken.
  @discardableResult
  private static func write(_ bytes: [UInt8], to descriptor: CInt) -> Bool {
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = rest.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
      if count < 0 {
        guard errno == EINTR else { return false }
        continue
      }
      rest = rest.dropFirst(count)
    }
    return true
  }
}
