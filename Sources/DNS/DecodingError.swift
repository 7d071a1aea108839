import Vocabulary

/// Why bytes are not a DNS message.
public enum DecodingError: CodedError, Equatable {
  /// The message ends inside of something.
  case truncated
  /// A label that is neither text nor a pointer (RFC 1035 §4.1.4).
  case unknownLabel
  /// A compression pointer that does not point backwards, past the header.
  case badPointer
  /// A name of more than 255 bytes.
  case nameTooLong
  /// More than one OPT record, or one that is not of the root (RFC 6891 §6.1.1).
  case badExtension

  public var code: String {
    switch self {
    case .truncated: "DNS_TRUNCATED"
    case .unknownLabel: "DNS_UNKNOWN_LABEL"
    case .badPointer: "DNS_BAD_POINTER"
    case .nameTooLong: "DNS_NAME_TOO_LONG"
    case .badExtension: "DNS_BAD_OPT"
    }
  }

  public var summary: String {
    switch self {
    case .truncated: "the message ends too early"
    case .unknownLabel: "the message has a label of an unknown kind"
    case .badPointer: "the message has a compression pointer that does not point backwards"
    case .nameTooLong: "the message has a name of more than \(DomainName.longest) bytes"
    case .badExtension: "the message has a second or misplaced OPT record"
    }
  }
}
