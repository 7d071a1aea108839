import Foundation
import Linux

/// Kills what this process has started when it is killed itself: a process that watches a socket to this one, which the
/// kernel closes whatever the end. A signal to each child at its parent's death (PR_SET_PDEATHSIG) would be simpler and
/// wrong: it comes when the *thread* ends that has started the child.
///
/// Safe to use from any thread.
final class Guardian: Sendable {
  /// The one of this process; nil where there can be none.
  static let shared = try? Guardian()

  private let socket: SharedDescriptor

  /// Keeps a list of process groups, and kills those on it at the end of its input.
  private static let script = """
    groups=
    while read -r sign group; do
      kept=
      for one in $groups; do [ "$one" = "$group" ] || kept="$kept $one"; done
      groups=$kept
      [ "$sign" = - ] || groups="$groups $group"
    done
    for group in $groups; do kill -9 "-$group"; done
    """

  private init() throws {
    let (mine, its) = try Self.pair()
    socket = mine
    let null = try Descriptor.open("/dev/null", O_RDWR)
    // A group of its own, so that no signal to this process's group ends it.
    let pid = try RunningProcess.spawn(
      "/bin/sh", ["sh", "-c", Self.script], environment: [:],
      descriptors: [its.raw, null.raw, null.raw])
    // It is waited for in the unlikely case that it ends before this process.
    Thread.detachNewThread {
      var status: CInt = 0
      while waitpid(pid, &status, 0) == -1, errno == EINTR {}
    }
  }

  private static func pair() throws -> (SharedDescriptor, SharedDescriptor) {
    var ends: [CInt] = [-1, -1]
    let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
    try system("socketpair") { socketpair(AF_UNIX, type, 0, &ends) }
    return (SharedDescriptor(Descriptor(owning: ends[0])), SharedDescriptor(Descriptor(owning: ends[1])))
  }

  /// The group is to be killed when this process ends.
  func watch(group: pid_t) { tell("+ \(group)\n") }

  /// The group has ended; its number may be another's soon.
  func forget(group: pid_t) { tell("- \(group)\n") }

  private func tell(_ line: String) {
    let bytes = Array(line.utf8)
    _ = send(socket.raw, bytes, bytes.count, CInt(MSG_NOSIGNAL))
  }
}
