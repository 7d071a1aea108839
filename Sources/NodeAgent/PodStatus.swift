import Kubernetes

/// What is written on a pod about its capture.
struct PodStatus: Equatable {
  /// `ambient.istio.io/redirection`, which the control plane reads: `enabled`, and it tells everybody to reach the pod
  /// through the tunnel; anything else, and the pod's peers send to it in plaintext.
  var redirection: String?
  /// ``proofAnnotation``, for people: the word of ``EnrolmentProof/Code``.
  var proof: String?

  static let proofAnnotation = "node-agent.ambient/proof"

  init(redirection: String? = nil, proof: String? = nil) {
    self.redirection = redirection
    self.proof = proof
  }

  /// What a pod says now.
  init(_ pod: Pod) {
    self.init(redirection: pod.redirectionStatus, proof: pod.meta.annotations[Self.proofAnnotation])
  }

  /// What it should say, when it said `last`.
  ///
  /// A pod becomes `enabled` when ztunnel is proven to serve it, and stays so while it is wanted in the mesh, whatever
  /// happens to its ztunnel or its rules: taking it back would have the pod's peers fall back to plaintext, while a tunnel
  /// that nobody answers fails closed. How it really is stands in the other annotation.
  static func of(
    _ verdict: EnrolmentRules.Verdict, _ state: EnrolmentState?, _ proof: EnrolmentProof.Code?, after last: PodStatus
  ) -> PodStatus {
    var next = last
    switch (verdict, state) {
    case (.outside, nil), (.outside, .outside): return PodStatus()
    // What is inside has still to go.
    case (.outside, _): return last
    // On its way: what comes of it will be said.
    case (.inMesh, nil), (.inMesh, .redirecting), (.inMesh, .leaving), (.inMesh, .outside): return last
    case (.inMesh, .announced): next.redirection = "enabled"
    case (.inMesh, .waitingForZtunnel), (.inMesh, .failed):
      // Whether its rules are in or a fence is: its traffic is cut, on purpose.
      let isCut = proof == .pending || proof == .fenced
      if isCut, last.redirection != "enabled" { next.redirection = "pending" }
    // Every new pod does for a moment, before anything was said about it.
    case (.inMesh, .waitingForNamespace): if last == PodStatus() { return last }
    }
    next.proof = proof?.rawValue
    return next
  }
}
