import Vocabulary

/// How a call ended: a code of gRPC's registry and the server's words, or ours where no server spoke.
public struct GRPCStatus: CodedError, Equatable {
  /// The codes of https://grpc.io/docs/guides/status-codes/.
  public enum Code: Int, Sendable, CaseIterable {
    case ok = 0
    case cancelled = 1
    case unknown = 2
    case invalidArgument = 3
    case deadlineExceeded = 4
    case notFound = 5
    case alreadyExists = 6
    case permissionDenied = 7
    case resourceExhausted = 8
    case failedPrecondition = 9
    case aborted = 10
    case outOfRange = 11
    case unimplemented = 12
    case internalError = 13
    case unavailable = 14
    case dataLoss = 15
    case unauthenticated = 16

    /// The registry's name, such as `DEADLINE_EXCEEDED`.
    public var name: String {
      switch self {
      case .ok: "OK"
      case .cancelled: "CANCELLED"
      case .unknown: "UNKNOWN"
      case .invalidArgument: "INVALID_ARGUMENT"
      case .deadlineExceeded: "DEADLINE_EXCEEDED"
      case .notFound: "NOT_FOUND"
      case .alreadyExists: "ALREADY_EXISTS"
      case .permissionDenied: "PERMISSION_DENIED"
      case .resourceExhausted: "RESOURCE_EXHAUSTED"
      case .failedPrecondition: "FAILED_PRECONDITION"
      case .aborted: "ABORTED"
      case .outOfRange: "OUT_OF_RANGE"
      case .unimplemented: "UNIMPLEMENTED"
      case .internalError: "INTERNAL"
      case .unavailable: "UNAVAILABLE"
      case .dataLoss: "DATA_LOSS"
      case .unauthenticated: "UNAUTHENTICATED"
      }
    }
  }

  public let status: Code
  /// For people; at most ``longestMessage`` characters.
  public let message: String

  /// A server's words beyond this are cut.
  static let longestMessage = 1024

  public init(_ status: Code, _ message: String) {
    self.status = status
    self.message = String(message.prefix(Self.longestMessage))
  }

  public var code: String { "GRPC_\(status.name)" }

  public var summary: String { "gRPC error (\(status.name)): \(message)" }

  public var remedy: String? {
    switch status {
    case .unauthenticated: "check the token file, the cluster id, and what the control plane logs about them"
    case .permissionDenied: "check that the token is of the namespace that this proxy runs in"
    case .unavailable: "check the address of the control plane and whether it is up"
    case .deadlineExceeded: "check whether the control plane is overloaded"
    case .unimplemented: "check that the address is a control plane's gRPC port"
    default: nil
    }
  }
}
