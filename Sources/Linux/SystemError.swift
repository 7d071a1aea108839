import Glibc
import Vocabulary

/// A system call that failed.
public struct SystemError: CodedError, Equatable {
  /// The call, such as `connect`.
  public let call: String
  /// The kernel's error number.
  public let number: CInt
  /// What the call was about (a path, an address), or empty.
  public let subject: String

  public init(_ call: String, _ number: CInt, subject: String = "") {
    self.call = call
    self.number = number
    self.subject = subject
  }

  /// The name of the error number where it has a common one (`ECONNREFUSED`), else `ERRNO_<n>`.
  public var code: String { Self.names[number] ?? "ERRNO_\(number)" }

  public var summary: String {
    subject.isEmpty ? "\(call): \(reason)" : "\(call) \(subject): \(reason)"
  }

  /// The C library's sentence for the number, such as `Connection refused`.
  public var reason: String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 128) { buffer in
      guard let base = buffer.baseAddress, strerror_r(number, base, buffer.count) == 0 else { return code }
      return String(cString: base)
    }
  }

  private static let names: [CInt: String] = [
    EPERM: "EPERM", ENOENT: "ENOENT", EINTR: "EINTR", EIO: "EIO", EBADF: "EBADF", EAGAIN: "EAGAIN",
    ENOMEM: "ENOMEM", EACCES: "EACCES", EBUSY: "EBUSY", EEXIST: "EEXIST", ENODEV: "ENODEV", EINVAL: "EINVAL",
    ENFILE: "ENFILE", EMFILE: "EMFILE", ENOTTY: "ENOTTY", EPIPE: "EPIPE", ENOPROTOOPT: "ENOPROTOOPT",
    EADDRINUSE: "EADDRINUSE", EADDRNOTAVAIL: "EADDRNOTAVAIL", ENETUNREACH: "ENETUNREACH",
    ECONNABORTED: "ECONNABORTED", ECONNRESET: "ECONNRESET", ENOTCONN: "ENOTCONN", ETIMEDOUT: "ETIMEDOUT",
    ECONNREFUSED: "ECONNREFUSED", EHOSTUNREACH: "EHOSTUNREACH", EAFNOSUPPORT: "EAFNOSUPPORT",
  ]
}

/// Runs a system call that reports failure as -1 with `errno`, again while it is interrupted.
///
/// Every call of the project goes through here, so that `EINTR` is decided once.
@discardableResult @inlinable
public func system<Result: FixedWidthInteger>(
  _ call: StaticString, _ subject: @autoclosure () -> String = "", _ body: () -> Result
) throws(SystemError) -> Result {
  while true {
    let result = body()
    if result != -1 { return result }
    let number = errno
    if number != EINTR { throw SystemError("\(call)", number, subject: subject()) }
  }
}
