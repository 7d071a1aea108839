import ZDS

/// What one worker says of itself at one moment.
struct WorkerReport: Sendable {
  struct Pod: Sendable {
    var inboundConnections = 0
    var outboundConnections = 0
    /// By the application.
    var bytesSent: UInt64 = 0
    var bytesReceived: UInt64 = 0
    /// Connections opened so far.
    var openedInbound: UInt64 = 0
    var openedOutbound: UInt64 = 0

    /// Without what is only true now.
    var counters: Pod {
      var part = self
      (part.inboundConnections, part.outboundConnections) = (0, 0)
      return part
    }

    /// A counter has become smaller: the pod's proxy is another one.
    func hasRestarted(since last: Pod) -> Bool {
      bytesSent < last.bytesSent || bytesReceived < last.bytesReceived || openedInbound < last.openedInbound
        || openedOutbound < last.openedOutbound
    }
  }

  struct PodName: Hashable, Comparable, Sendable {
    var namespace: String
    var name: String

    static func < (left: PodName, right: PodName) -> Bool {
      (left.namespace, left.name) < (right.namespace, right.name)
    }
  }

  /// Whose it is; of a sum, nobody's.
  var worker = 0
  var dns = DNSMetrics()
  var sourceSockets = 0
  var destinationSockets = 0
  var inboundTunnels = 0
  var poolTunnels = 0
  var poolDraining = 0
  var poolDialing = 0
  var poolStreams = 0
  var pods: [PodName: Pod] = [:]

  static func += (left: inout WorkerReport, right: WorkerReport) {
    left.dns.merge(right.dns)
    left.sourceSockets += right.sourceSockets
    left.destinationSockets += right.destinationSockets
    left.inboundTunnels += right.inboundTunnels
    left.poolTunnels += right.poolTunnels
    left.poolDraining += right.poolDraining
    left.poolDialing += right.poolDialing
    left.poolStreams += right.poolStreams
    for (name, pod) in right.pods { left.pods[name, default: Pod()] += pod }
  }
}

extension WorkerReport.Pod {
  static func += (left: inout Self, right: Self) {
    left.inboundConnections += right.inboundConnections
    left.outboundConnections += right.outboundConnections
    left.bytesSent &+= right.bytesSent
    left.bytesReceived &+= right.bytesReceived
    left.openedInbound &+= right.openedInbound
    left.openedOutbound &+= right.openedOutbound
  }
}
