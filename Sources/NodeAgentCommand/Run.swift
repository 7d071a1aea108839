import ArgumentParser
import NodeAgent

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Runs the daemon.",
    discussion: """
      Workloads are YAML files (*.yaml, *.yml), watched while it runs; one workload a document, or a list under \
      `workloads:`:

        name: web
        namespace: shop
        serviceAccount: web          # default: default
        netns: /run/netns/web        # or pid: 1234, or unit: web.service
        uid: web-1                   # default: <namespace>/<name>
        mesh: true                   # false takes it out
        annotations:
          ambient.istio.io/bypass-inbound-capture: "false"
          ambient.istio.io/dns-capture: "false"
          istio.io/reroute-virtual-interfaces: "tap0, tap1"

      Further environment variables:
        AMBIENT_DNS_CAPTURE         capture DNS too; ztunnel serves it unless its
                                    ISTIO_META_DNS_CAPTURE says no (default false)
        AMBIENT_IPV6                write IPv6 rules (default true)
        AMBIENT_RECONCILE_INTERVAL  how often enrolled namespaces are proven again
                                    (default 30s)
        AMBIENT_FENCE               cut off a workload whose capture cannot be
                                    proven, and stop what slips past it before
                                    that is noticed (default true)
        AMBIENT_ESCAPE_COUNTER      count packets that leave a workload past
                                    ztunnel (default true)
        AMBIENT_PROBE_MODE          how the node's probes get past ztunnel: host
                                    (their source is rewritten), in-pod (known by
                                    their hop limit), off (default host in
                                    Kubernetes, else off)
        AMBIENT_STATUS_SOCKET       where `node-agent status` asks (default
                                    \(NodeAgentConfiguration.defaultStatusSocket))
        HOST_PROBE_SNAT_IP, HOST_PROBE_SNAT_IPV6
                                    addresses of health probes, which are never
                                    captured
        AMBIENT_STATE_DIRECTORY     remembers files across restarts, not reboots
                                    (default /run/ambient/node-agent, with
                                    Kubernetes CNI_AGENT_RUN_DIR/ambient)
        NODE_NAME                   with Kubernetes, the name of this node; its
                                    pods are enrolled
        AMBIENT_ENABLEMENT_SELECTOR, EXCLUDE_NAMESPACES
                                    which pods belong to the mesh (default: by the
                                    label istio.io/dataplane-mode)
        AMBIENT_TRUST_WATCH         while the API server is away, let a pod start
                                    uncaptured when the labels known last do not
                                    ask for the mesh (default false: it waits)
        MONITORING_PORT             metrics; 0 for none (default 15014)
        AMBIENT_HEALTH_PORT         /readyz and /healthz; 0 for none (default 8000)
        LOG_LEVEL                   such as info, or info,enrolment=debug
                                    (default info)
        LOG_FORMAT                  json, journal or plain (default plain, or
                                    journal where standard error is one)

      On SIGHUP the files are read again and every workload is proven. On SIGTERM the sockets are closed. Rules stay in \
      force, so that no traffic of an enrolled workload leaves in plaintext, unless --cleanup-on-exit is given.
      """)

  @Option(
    help: ArgumentHelp(
      "Socket for ztunnel; also ZTUNNEL_UDS_ADDRESS. (default: \(NodeAgentConfiguration.defaultSocketPath))",
      valueName: "path"))
  var ztunnelUdsAddress: String?

  @Option(
    help: ArgumentHelp(
      "Directory of workload files; also WORKLOADS_DIRECTORY. (default: \(NodeAgentConfiguration.defaultWorkloads))",
      valueName: "directory"))
  var workloads: String?

  @Flag(help: "Take every workload out of the mesh at exit, rules included.")
  var cleanupOnExit = false

  @Option(
    help: ArgumentHelp(
      "directory or kubernetes; also WORKLOAD_SOURCE. (default: kubernetes in a pod, and with AMBIENT_ENABLED=true)",
      valueName: "source"))
  var source: String?

  @Option(
    help: ArgumentHelp(
      "How to reach the API server; also KUBECONFIG. (default: the pod's service account)", valueName: "file"))
  var kubeconfig: String?

  func run() throws {
    var flags = NodeAgentConfiguration.Flags()
    flags.socketPath = ztunnelUdsAddress
    flags.workloads = workloads
    flags.source = source
    flags.kubeconfig = kubeconfig
    flags.cleanupOnExit = cleanupOnExit
    try Daemon.run(flags, environment: Environment.read())
  }
}
