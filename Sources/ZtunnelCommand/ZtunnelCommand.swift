import ArgumentParser
import Glibc
import Identity
import Linux
import Vocabulary
import Ztunnel

/// What a person types.
struct ZtunnelCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "ztunnel",
    abstract: "The node proxy of an ambient mesh: mutual TLS, identity and L4 policy for every pod of this node.",
    discussion: """
      Without a subcommand it runs the proxy. When something is wrong, start with `ztunnel status`, then `ztunnel \
      explain`.

      The proxy takes its configuration from the environment, by the names that Istio's ztunnel uses; the most important \
      ones:
        XDS_ADDRESS       control plane that describes the mesh, host:port
        CA_ADDRESS        control plane that signs certificates, host:port
        LOCAL_XDS_PATH    file with workloads, services and policies, read again
                          when it changes
        LOCAL_CA_PATH     directory that `ztunnel make-ca` made: root-cert.pem,
                          ca-cert.pem, ca-key.pem, cert-chain.pem
        SPIFFE_ENDPOINT_SOCKET
                          SPIFFE agent that gives certificates
        NODE_NAME         which workloads are on this node
        INPOD_UDS         socket of the node agent (default
                          /var/run/ztunnel/ztunnel.sock)
        ZTUNNEL_ADMIN_PORT, ZTUNNEL_STATS_PORT, ZTUNNEL_READINESS_PORT
                          page and admin interface, metrics, readiness (default
                          15000, 15020, 15021; 0 for none)
        CONNECTION_TERMINATION_DEADLINE
                          how long open connections may run on after SIGTERM
        RUST_LOG          log levels, such as info,access=debug (default info)
        LOG_FORMAT        plain, json or journal (default plain, or journal where
                          standard error is one)

      A value that cannot be used stops the start, and all of them are named.
      """,
    version: ProductVersion.full,
    subcommands: [Proxy.self, Status.self, Explain.self, Upgrade.self, MakeAuthority.self, Version.self],
    defaultSubcommand: Proxy.self)
}

/// Runs the daemon.
struct Proxy: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run the proxy until SIGTERM.",
    discussion: """
      On SIGTERM new connections are left to the next ztunnel, and open ones run on until they end or the deadline; a \
      second SIGTERM cuts them. On SIGHUP files are read again. `ztunnel --help` lists the variables of its configuration.
      """)

  @Argument(help: ArgumentHelp("Ignored: Istio's manifests pass the proxy's type here.", visibility: .hidden))
  var rest: [String] = []

  func run() throws {
    // The runtime's thread for timers asks for a priority that takes CAP_SYS_NICE, and would complain at each start.
    setenv("LIBDISPATCH_LOG", "NO", 0)
    do {
      try ZtunnelProcess(environment: ProcessEnvironment.variables()).run()
    } catch let error as any CodedError {
      StandardError.print("ztunnel: \(error)")
      throw ExitCode.failure
    }
  }
}

/// Makes a certificate authority for trying things out.
struct MakeAuthority: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "make-ca",
    abstract: "Make a certificate authority for a demonstration or a single machine.",
    discussion: "Writes root-cert.pem, ca-cert.pem, cert-chain.pem and ca-key.pem; never overwrites any.")

  @Argument(help: "The directory, made where it is missing.")
  var directory: String

  func run() throws {
    do {
      try DevelopmentAuthority.create(in: directory)
    } catch {
      StandardError.print("ztunnel: \(error)")
      throw ExitCode.failure
    }
  }
}

/// Prints the version.
struct Version: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Print the version.")

  @Flag(help: "Print JSON.")
  var json = false

  func run() {
    print(json ? ProductVersion.json(of: "ztunnel") : "ztunnel \(ProductVersion.full)")
  }
}
