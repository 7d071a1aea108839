import ArgumentParser
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
      Without a subcommand it runs the proxy. The proxy takes its configuration from the environment, by the names that \
      Istio's ztunnel uses; the most important ones:

        XDS_ADDRESS      control plane that describes the mesh, host:port
        CA_ADDRESS       control plane that signs certificates, host:port
        LOCAL_XDS_PATH   file with workloads, services and policies, re-read when it changes
        LOCAL_CA_PATH    directory with root-cert.pem, ca-cert.pem, ca-key.pem and cert-chain.pem
        NODE_NAME        which workloads are on this node
        INPOD_UDS        socket of the node agent (/var/run/ztunnel/ztunnel.sock)
        RUST_LOG         log levels, such as info,access=debug
        LOG_FORMAT       plain or json
      """,
    version: ProductVersion.text,
    subcommands: [Proxy.self, Status.self, Explain.self, MakeAuthority.self, Version.self],
    defaultSubcommand: Proxy.self)
}

/// Runs the daemon.
struct Proxy: ParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Run the proxy until SIGTERM.")

  @Argument(help: ArgumentHelp("Ignored: Istio's manifests pass the proxy's type here.", visibility: .hidden))
  var rest: [String] = []

  func run() throws {
    do {
      try ZtunnelProcess(environment: Environment.variables()).run()
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
    print(json ? ProductVersion.json(of: "ztunnel") : "ztunnel \(ProductVersion.text)")
  }
}
