import GRPC
import Vocabulary

/// Why a stream of the control plane ended where its own status does not say enough.
public enum StreamError: CodedError, Equatable {
  /// It refuses a subscription that cannot be any smaller.
  case subscriptionRefused(GRPCStatus)
  /// It took a subscription and did not answer it.
  case unanswered(after: Duration)
  case ended(GRPCStatus)

  public var code: String {
    switch self {
    case .subscriptionRefused: "XDS_SUBSCRIPTION_REFUSED"
    case .unanswered: "XDS_UNANSWERED"
    case .ended(let status): status.code
    }
  }

  public var summary: String {
    switch self {
    case .subscriptionRefused(let status):
      "the control plane refuses a subscription that names as little as it can: \(status.summary)"
    case .unanswered(let limit): "the control plane has not answered the subscription within \(limit)"
    case .ended(let status): status.summary
    }
  }

  public var remedy: String? {
    switch self {
    case .subscriptionRefused:
      "check what the control plane logs; istiod's limit is ISTIO_GPRC_MAXRECVMSGSIZE"
    case .unanswered: "check whether the control plane is overloaded, and that what answers at its address is one"
    case .ended(let status): status.remedy
    }
  }
}
