// swift-tools-version: 6.2
import PackageDescription

/// Every Swift target is built in Swift 6 mode, with warnings as errors, and with `nonisolated async`
/// functions staying on their caller's executor: that is what keeps a connection on its worker's thread.
let strict: [SwiftSetting] = [
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
  .enableUpcomingFeature("ExistentialAny"),
  .treatAllWarnings(as: .error),
]

func library(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(of name: String, _ dependencies: [Target.Dependency] = []) -> Target {
  .testTarget(
    name: "\(name)Tests",
    dependencies: [.init(stringLiteral: name), "TestSupport"] + dependencies,
    swiftSettings: strict)
}

let log = Target.Dependency.product(name: "Logging", package: "swift-log")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let persistentMaps = Target.Dependency.product(name: "HashTreeCollections", package: "swift-collections")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let protobuf = Target.Dependency.product(name: "SwiftProtobuf", package: "swift-protobuf")

/// What the programs say they are built from: `make` and the images' build ask git and pass it. A build without it, and without
/// git, works as well.
let revision: [CSetting] = {
  guard let text = Context.environment["AMBIENT_REVISION"], (1...64).contains(text.utf8.count),
    text.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "-.".contains($0)) })
  else { return [] }
  return [.define("AMBIENT_REVISION", to: "\"\(text)\"")]
}()

let package = Package(
  name: "ambient",
  products: [
    .executable(name: "node-agent", targets: ["node-agent"]),
    .executable(name: "ztunnel", targets: ["ztunnel"]),
    .executable(name: "ambient-cni", targets: ["ambient-cni"]),
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-log", from: "1.6.0"),
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.5.0"),
    .package(url: "https://github.com/apple/swift-collections", from: "1.1.0"),
    // Without its traits it brings no Foundation and ICU into the daemons.
    .package(url: "https://github.com/apple/swift-protobuf", from: "1.39.0", traits: []),
  ],
  targets: [
    // The kernel and the C libraries.
    .target(name: "CLinux"),
    .target(
      name: "CIptc",
      linkerSettings: [.linkedLibrary("ip4tc"), .linkedLibrary("ip6tc")]),
    .target(
      name: "COpenSSL",
      linkerSettings: [.linkedLibrary("ssl"), .linkedLibrary("crypto")]),
    .systemLibrary(name: "CNghttp2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),
    .systemLibrary(name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
    .systemLibrary(name: "CSystemd", pkgConfig: "libsystemd", providers: [.apt(["libsystemd-dev"])]),

    // Values and the operating system.
    .target(name: "CRevision", cSettings: revision),
    library("Vocabulary", ["CRevision"]),
    library("YAML", ["CYAML", "Vocabulary"]),
    library("JSON", ["Vocabulary"]),
    library("Linux", ["CLinux", "CSystemd", "Vocabulary", deque]),
    library("Metrics"),
    library("HTTPServer", ["CLinux", "Linux", "Vocabulary"]),
    library("Telemetry", ["CLinux", "CSystemd", "Linux", "Vocabulary", log]),

    // What is said on the wire and what the mesh is.
    .target(
      name: "IstioAPI", dependencies: [protobuf], exclude: ["proto"], swiftSettings: strict),
    library("ZDS", ["CLinux", "IstioAPI", "Linux", "Vocabulary", deque]),
    library("Mesh", ["Vocabulary", "YAML", persistentMaps]),
    library("DNS", ["Mesh", "Vocabulary"]),

    // Tunnels.
    library("TLS", ["COpenSSL", "Linux", "Vocabulary"]),
    library("Identity", ["GRPC", "IstioAPI", "TLS", "Linux", "Vocabulary", protobuf, log]),
    library("HTTP2", ["CNghttp2", "COpenSSL", "Linux", "TLS", "Vocabulary", deque]),

    // The control plane.
    library("GRPC", ["CLinux", "HTTP2", "Linux", "TLS", "Vocabulary", deque]),

    library(
      "XDS", ["CLinux", "GRPC", "IstioAPI", "Linux", "Mesh", "Vocabulary", deque, persistentMaps, protobuf, log]),

    // The cluster.
    library("Kubernetes", ["HTTP2", "JSON", "Linux", "TLS", "Vocabulary", "YAML"]),

    // Capture.
    library("Redirection", ["CIptc", "CLinux", "Linux", "Vocabulary"]),

    // The CNI plugin, which must depend on nothing that cannot be linked statically.
    library("CNI", ["JSON", "Vocabulary"]),
    .target(name: "CPluginStart"),
    // Tests must not depend on it: its linker settings would become theirs. They run what `--build-tests` builds.
    .executableTarget(
      name: "ambient-cni", dependencies: ["CNI", "CPluginStart"], path: "Sources/AmbientCNICommand",
      swiftSettings: strict,
      // lld, because it does not complain about the runtime's use of dlopen, which the plugin never comes to.
      linkerSettings: [.unsafeFlags(["-static-executable", "-use-ld=lld", "-Xlinker", "--gc-sections"])]),

    // The daemons: everything in libraries, so that tests can import it; the commands only parse and run.
    library(
      "NodeAgent",
      [
        "CLinux", "CNI", "HTTP2", "HTTPServer", "JSON", "Kubernetes", "Linux", "Metrics", "Redirection", "Telemetry",
        "Vocabulary", "YAML", "ZDS", log,
      ]),
    library(
      "Ztunnel",
      [
        "CLinux", "DNS", "GRPC", "HTTP2", "HTTPServer", "Identity", "IstioAPI", "JSON", "Linux", "Mesh", "Metrics",
        "TLS", "Telemetry", "Vocabulary", "XDS", "YAML", "ZDS", log,
      ]),
    .executableTarget(
      name: "node-agent", dependencies: ["JSON", "Linux", "NodeAgent", "Redirection", "Telemetry", arguments],
      path: "Sources/NodeAgentCommand",
      swiftSettings: strict),
    .executableTarget(
      name: "ztunnel", dependencies: ["Identity", "Linux", "Mesh", "Vocabulary", "Ztunnel", arguments],
      path: "Sources/ZtunnelCommand",
      swiftSettings: strict),

    // Tests.
    .target(
      name: "TestSupport", dependencies: ["CLinux", "Linux", "Vocabulary"], path: "Tests/TestSupport",
      swiftSettings: strict),
    .target(
      name: "KubernetesTestSupport", dependencies: ["COpenSSL", "HTTP2", "Kubernetes", "Linux", "TLS", "Vocabulary"],
      path: "Tests/KubernetesTestSupport", swiftSettings: strict),
    .testTarget(
      name: "TestSupportTests", dependencies: ["TestSupport", "Linux", "Vocabulary"], swiftSettings: strict),
    .testTarget(name: "DocumentationTests", dependencies: ["TestSupport"], swiftSettings: strict),
    .testTarget(
      name: "PackagingTests", dependencies: ["Linux", "TestSupport", "node-agent", "ztunnel"], exclude: ["Machine"],
      swiftSettings: strict),
    tests(of: "Vocabulary"),
    tests(of: "YAML"),
    tests(of: "JSON", ["Vocabulary"]),
    tests(of: "Linux"),
    tests(of: "Metrics"),
    tests(of: "HTTPServer", ["Linux", "Vocabulary"]),
    tests(of: "Telemetry", ["Linux", "Vocabulary", log]),
    tests(of: "ZDS", ["CLinux", "Linux"]),
    tests(of: "Mesh"),
    tests(of: "DNS", ["Mesh", "Vocabulary"]),
    tests(of: "TLS", ["COpenSSL"]),
    .testTarget(
      name: "IdentityTests",
      dependencies: [
        "COpenSSL", "GRPC", "HTTP2", "Identity", "IstioAPI", "Linux", "TLS", "TestSupport", "Vocabulary", protobuf,
      ],
      exclude: ["Servers"], swiftSettings: strict),
    tests(of: "HTTP2"),
    .testTarget(
      name: "GRPCTests", dependencies: ["GRPC", "HTTP2", "Linux", "TLS", "TestSupport", "Vocabulary"],
      exclude: ["Servers"], swiftSettings: strict),
    tests(of: "XDS", ["GRPC", "IstioAPI", "Linux", "Mesh", "Vocabulary", protobuf, log]),
    tests(of: "Redirection"),
    tests(of: "CNI", ["JSON", "Linux", "Vocabulary"]),
    .testTarget(
      name: "KubernetesTests",
      dependencies: ["HTTP2", "JSON", "Kubernetes", "KubernetesTestSupport", "Linux", "TestSupport", "Vocabulary"],
      swiftSettings: strict),
    tests(
      of: "NodeAgent",
      [
        "CLinux", "CNI", "HTTP2", "HTTPServer", "JSON", "Kubernetes", "KubernetesTestSupport", "Linux", "Metrics",
        "Redirection", "Telemetry", "Vocabulary", "ZDS", log,
      ]),
    tests(
      of: "Ztunnel",
      [
        "DNS", "GRPC", "HTTP2", "HTTPServer", "Identity", "IstioAPI", "Linux", "Mesh", "Metrics", "TLS", "Telemetry",
        "Vocabulary", "XDS", "ZDS", log, protobuf,
      ]),
    .testTarget(
      name: "EndToEndTests",
      dependencies: [
        "HTTP2", "HTTPServer", "Identity", "Linux", "Mesh", "Redirection", "TLS", "Telemetry", "TestSupport",
        "Vocabulary", "ZDS", "Ztunnel", "node-agent", "ztunnel",
      ],
      exclude: ["Browser", "ControlPlane", "Systemd"],
      swiftSettings: strict),
    .testTarget(
      name: "KubernetesNodeTests",
      dependencies: ["JSON", "Linux", "TestSupport", "Vocabulary", "node-agent", "ztunnel"],
      swiftSettings: strict),
  ],
  swiftLanguageModes: [.v6]
)

// Only where it is asked for: a fuzzer links with `--sanitize fuzzer` alone (`make fuzz`).
if Context.environment["AMBIENT_FUZZ"] != nil {
  package.targets += [
    .executableTarget(
      name: "fuzz",
      dependencies: ["DNS", "IstioAPI", "Mesh", "TLS", "Vocabulary", "XDS", "YAML", "ZDS"],
      path: "Tests/Fuzzing", exclude: ["Corpora"], swiftSettings: strict)
  ]
}
