import Metrics

/// What is proven, as metrics.
enum EnrolmentMetrics {
  static func register(_ proofs: EnrolmentProofs, in registry: MetricRegistry) {
    registry.collect(
      MetricDescription(.gauge, "node_agent_workload_proofs", "Workloads by what is proven about them")
    ) { samples in
      let all = proofs.all
      for code in EnrolmentProof.Code.allCases {
        samples.add(["state": code.rawValue], Int64(all.count { $0.code == code }))
      }
    }
    registry.collect(
      MetricDescription(
        .gauge, "node_agent_workload_identities",
        "Workloads whose certificate ztunnel holds, lacks, or says nothing about")
    ) { samples in
      let all = proofs.all
      for (state, isHeld) in [("held", true), ("missing", false), ("unknown", nil)] as [(String, Bool?)] {
        samples.add(["state": state], Int64(all.count { $0.hasIdentity == isHeld }))
      }
    }
    registry.collect(
      MetricDescription(
        .counter, "node_agent_escaped_packets", "Packets that left workloads of the mesh past ztunnel")
    ) { samples in
      samples.add([:], Int64(clamping: proofs.escapedPackets))
    }
    registry.collect(
      MetricDescription(
        .counter, "node_agent_stopped_packets",
        "Packets that would have opened a connection past ztunnel, out of or into workloads of the mesh, and were dropped"
      )
    ) { samples in
      samples.add([:], Int64(clamping: proofs.stoppedPackets))
    }
  }
}
