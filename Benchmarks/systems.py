"""What is compared: each system puts its proxies into a world and says where clients connect."""

import json
import pathlib

from certificates import PREFIX
from processes import BenchmarkError, contains, eventually, name, run, tail
from world import ADDRESSES, APPLICATION_PORTS, CALM, CONNTRACK_SETTINGS, SERVER, WEB, World

WORKERS = 2
STREAM_WINDOW, CONNECTION_WINDOW, FRAME = 4 << 20, 16 << 20, 1 << 20
STREAMS_PER_CONNECTION = 100
TLS_SUITES = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256"


class System:
    """No proxy at all; the others refine it."""

    key, title = "direct", "direct"
    # Open files that one proxy needs for each tunnelled connection.
    files_per_connection = 1

    def __init__(self, setup, label=None):
        self.setup = setup
        self.proxies, self.agents = [], []
        self.world = World(setup.ledger, label or self.key)
        try:
            self.start()
            self.world.wait_for_web("client", *self.target(WEB), self.require_alive)
            self.world.wait_for_web(self.place("quiet"), *self.target(CALM), self.require_alive)
            self.verify()
        except BaseException:
            self.world.close()
            raise

    def start(self):
        """Starts the proxies."""

    def verify(self):
        """Fails unless the first connections went the way they should."""

    def target(self, port):
        """Where a client connects to reach the server's port."""
        return SERVER, port

    def place(self, role):
        """In which pod a client with this role runs."""
        return role

    def require_alive(self):
        for process in self.proxies + self.agents:
            if process.poll() is not None:
                raise BenchmarkError(
                    f"{self.title}: {name(process)} ended with status {process.returncode}{tail(process.log)}")

    def close(self):
        self.world.close()


    def write(self, file, text):
        pathlib.Path(self.world.path(file)).write_text(text)
        return self.world.path(file)

    def capture(self, node, pods):
        """Has a node-agent write the mesh's redirect rules into pods; returns the path of its socket."""
        directory = pathlib.Path(self.world.path(f"pods-{node}"))
        directory.mkdir()
        for pod in pods:
            (directory / f"{pod}.yaml").write_text(
                f"name: {pod}\nnamespace: bench\nserviceAccount: {pod}\n"
                f"netns: /run/netns/{self.world.namespace(pod)}\n")
        socket = self.world.path(f"{node}.sock")
        self.agents.append(self.world.start(
            node, [self.setup.node_agent, "run", "--workloads", directory, "--ztunnel-uds-address", socket],
            f"node-agent-{node}.log", environment={"AMBIENT_STATE_DIRECTORY": self.world.path(f"state-{node}")}))
        return socket


class HAProxy(System):
    """One proxy beside the client and one beside the server; clients connect to a local listener, uncaptured."""

    key, title = "haproxy", "HAProxy"
    files_per_connection = 2

    def target(self, port):
        return "127.0.0.1", port + 5000

    def place(self, role):
        return "client"

    def start(self):
        certificates = self.setup.certificates
        client, server = self.frame(), self.frame()
        tls = f"ca-file {certificates.root} verify required ciphersuites {TLS_SUITES} ssl-min-ver TLSv1.3"
        for port in APPLICATION_PORTS:
            client += (
                f"listen port-{port}\n  bind 127.0.0.1:{port + 5000}\n"
                f"  server tunnel {SERVER}:{port + 7000} ssl crt {certificates.bundle('client')} {tls}\n")
            server += (
                f"listen port-{port}\n  bind :{port + 7000} ssl crt {certificates.bundle('server')} {tls}\n"
                f"  server application 127.0.0.1:{port}\n")
        for role, text in (("client", client), ("server", server)):
            path = self.write(f"haproxy-{role}.cfg", text)
            self.proxies.append(self.world.start(role, ["haproxy", "-db", "-f", path], f"haproxy-{role}.log"))

    def frame(self):
        return (
            f"global\n  nbthread {WORKERS}\n  maxconn {self.setup.ledger.open_files // 2 - 200}\n"
            "  log stdout format raw local0 info\n"
            "defaults\n  mode tcp\n  log global\n  option tcplog\n  timeout connect 10s\n"
            "  timeout client 1h\n  timeout server 1h\n")

    def verify(self):
        eventually(
            "a log line of HAProxy's server side",
            lambda: contains(self.world.path("haproxy-server.log"), f"port-{WEB}"))


class Captured(System):
    """A pair of proxies in our place, one in the client's namespace and one in the server's, behind our rules."""

    def place(self, role):
        # One proxy serves one namespace, and the second client shares it.
        return "client"

    def capture_both(self):
        self.capture("node-a", ("client",))
        self.capture("node-b", ("server",))
        for role in ("client", "server"):
            eventually(
                f"redirect rules in {role}",
                lambda: "15006" in run(["nsenter", f"--net=/run/netns/{self.world.namespace(role)}",
                                        "iptables-legacy-save", "-t", "nat"]), 20)
            self.world.configure(role, CONNTRACK_SETTINGS)


class Relay(Captured):
    """Copies captured bytes on both sides and does nothing else (relay.c): the bound for all that do more."""

    key, title = "relay", "relay"
    files_per_connection = 2

    def start(self):
        self.capture_both()
        for role, port in (("client", 15001), ("server", 15006)):
            self.proxies.append(self.world.start(role, [self.setup.relay(), port, WORKERS], f"relay-{role}.log"))


class Envoy(Captured):
    """A pair of Envoys in our place: the same redirect rules lead to the same ports, the same tunnel lies between."""

    key, title = "envoy", "Envoy"
    CIPHER = "tls="

    def start(self):
        self.capture_both()
        for role, configuration in (("client", self.client()), ("server", self.server())):
            path = self.write(f"envoy-{role}.json", json.dumps(configuration, indent=1))
            command = [
                self.setup.envoy, "--config-path", path, "--concurrency", WORKERS, "--disable-hot-restart",
                "--log-level", "warning"]
            self.proxies.append(self.world.start(role, command, f"envoy-{role}.log"))

    def verify(self):
        log = self.world.path("envoy-access-server.log")
        eventually("Envoy's access log with the client's identity", lambda: contains(log, f"{PREFIX}client"), 20)
        text = pathlib.Path(log).read_text()
        self.setup.remarks["envoy_tls"] = text.partition(self.CIPHER)[2].split()[0]

    def client(self):
        # Captured connections arrive at 15001 and go to the listener of the address they were meant for.
        listeners = [{
            "name": "capture", "address": address("0.0.0.0", 15001), "use_original_dst": True,
            "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "unknown", "cluster": "nowhere"}}]}]}]
        for port in APPLICATION_PORTS:
            proxy = {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": f"port_{port}",
                # The quiet pod is another pod: it has tunnels of its own.
                "cluster": "tunnel-of-quiet" if port == CALM else "tunnel",
                "tunneling_config": {"hostname": f"{SERVER}:{port}"},
                "access_log": [self.access_log("client", "%UPSTREAM_HOST% %UPSTREAM_PEER_URI_SAN%")],
            }
            listeners.append({
                "name": f"port-{port}", "address": address(SERVER, port), "bind_to_port": False,
                "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config": proxy}]}]})
        tls = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": self.tls_context(
                "client", [{"san_type": "URI", "matcher": {"exact": f"{PREFIX}server"}}]),
        }
        options = {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": http2_options(STREAMS_PER_CONNECTION)},
            "common_http_protocol_options": {"idle_timeout": "3600s"},
        }
        clusters = [
            {**cluster(title, SERVER, 15008),
             "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
             "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}}
            for title in ("tunnel", "tunnel-of-quiet")]
        nowhere = {"name": "nowhere", "type": "STATIC", "load_assignment": {"cluster_name": "nowhere"}}
        return bootstrap(listeners, [*clusters, nowhere])

    def server(self):
        tls = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "require_client_certificate": True,
            "common_tls_context": self.tls_context(
                "server", [{"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/"}}]),
        }
        hosts = [
            {"name": f"port-{port}", "domains": [f"{SERVER}:{port}"], "routes": [{
                "match": {"connect_matcher": {}},
                "route": {"cluster": f"application-{port}", "timeout": "0s",
                          "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}]}
            for port in APPLICATION_PORTS]
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
                     ".HttpConnectionManager",
            "stat_prefix": "hbone", "stream_idle_timeout": "0s",
            "common_http_protocol_options": {"idle_timeout": "3600s"},
            "http2_protocol_options": {**http2_options(200), "allow_connect": True},
            "upgrade_configs": [{"upgrade_type": "CONNECT"}],
            "route_config": {"name": "hbone", "virtual_hosts": hosts},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
            "access_log": [self.access_log(
                "server",
                f"%REQ(:AUTHORITY)% %DOWNSTREAM_PEER_URI_SAN% {self.CIPHER}%DOWNSTREAM_TLS_CIPHER% %RESPONSE_CODE%")],
        }
        listener = {
            "name": "hbone", "address": address("0.0.0.0", 15008),
            "filter_chains": [{
                "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
                "filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}]}
        return bootstrap([listener], [cluster(f"application-{port}", "127.0.0.1", port) for port in APPLICATION_PORTS])

    def tls_context(self, account, names):
        certificates = self.setup.certificates
        return {
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [{
                "certificate_chain": {"filename": certificates.chain(account)},
                "private_key": {"filename": certificates.key(account)}}],
            "validation_context": {
                "trusted_ca": {"filename": certificates.root}, "match_typed_subject_alt_names": names},
            "alpn_protocols": ["h2"],
        }

    def access_log(self, side, more):
        line = (
            "%START_TIME% src=%DOWNSTREAM_REMOTE_ADDRESS% dst=%DOWNSTREAM_LOCAL_ADDRESS% sent=%BYTES_SENT% "
            f"received=%BYTES_RECEIVED% duration=%DURATION% flags=%RESPONSE_FLAGS% {more}\n")
        return {"name": "envoy.access_loggers.file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": self.world.path(f"envoy-access-{side}.log"),
            "log_format": {"text_format_source": {"inline_string": line}}}}


def bootstrap(listeners, clusters):
    # The mark by which the redirect rules know a proxy's own connections (SOL_SOCKET, SO_MARK).
    mark = {"level": 1, "name": 36, "int_value": 1337, "state": "STATE_PREBIND"}
    return {
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "cluster_manager": {"upstream_bind_config": {"source_address": {"address": "0.0.0.0", "port_value": 0},
                                                     "socket_options": [mark]}}}


def address(host, port):
    return {"socket_address": {"address": host, "port_value": port}}


def cluster(title, host, port):
    unlimited = {"max_connections": 1000000, "max_pending_requests": 1000000, "max_requests": 1000000}
    return {
        "name": title, "type": "STATIC", "connect_timeout": "10s",
        "circuit_breakers": {"thresholds": [unlimited]},
        "load_assignment": {"cluster_name": title, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": address(host, port)}}]}]}}


def http2_options(streams):
    return {
        "initial_stream_window_size": STREAM_WINDOW, "initial_connection_window_size": CONNECTION_WINDOW,
        "max_concurrent_streams": streams,
        # SETTINGS_MAX_FRAME_SIZE has no option of its own (RFC 9113 §6.5.2).
        "custom_settings_parameters": [{"identifier": 5, "value": FRAME}]}


class Ours(System):
    """A node-agent and a ztunnel on each node; clients connect to the real destination and are captured."""

    key, title = "ours", "ours"

    def start(self):
        world, certificates = self.world, self.setup.certificates
        records = "".join(
            f"- {{uid: bench/{pod}, name: {pod}, namespace: bench, serviceAccount: {pod}, workloadIps: [{ip}], "
            f"node: {node}, protocol: HBONE, services: {{}}}}\n"
            for pod, ip, node in (
                ("client", ADDRESSES["client"], "node-a"), ("quiet", ADDRESSES["quiet"], "node-a"),
                ("server", SERVER, "node-b")))
        # In a folder of its own: the file's folder is watched, and logs grow beside it.
        mesh = pathlib.Path(world.path("mesh"), "mesh.yaml")
        mesh.parent.mkdir()
        mesh.write_text(f"workloads:\n{records}services: []\npolicies: []\n")
        for node, pods in (("node-a", ("client", "quiet")), ("node-b", ("server",))):
            socket = self.capture(node, pods)
            environment = {
                "NODE_NAME": node, "INPOD_UDS": socket, "LOCAL_XDS_PATH": mesh,
                "LOCAL_CA_PATH": certificates.authority, "ZTUNNEL_WORKER_THREADS": str(WORKERS),
                "HTTP2_STREAM_WINDOW_SIZE": str(STREAM_WINDOW), "HTTP2_CONNECTION_WINDOW_SIZE": str(CONNECTION_WINDOW),
                "HTTP2_FRAME_SIZE": str(FRAME), "POOL_MAX_STREAMS_PER_CONNECTION": str(STREAMS_PER_CONNECTION),
                **self.environment(),
            }
            self.proxies.append(world.start(node, [self.setup.ztunnel], self.log(node), environment=environment))
        for node, pods in (("node-a", ("client", "quiet")), ("node-b", ("server",))):
            for pod in pods:
                served = f'workload="bench/{pod}"'
                eventually(
                    f"ztunnel on {node} to serve {pod}{tail(world.path(self.log(node)))}",
                    lambda: contains(world.path(self.log(node)), served), 20)
        for role in ("client", "quiet", "server"):
            world.configure(role, CONNTRACK_SETTINGS)

    def environment(self):
        """What our ztunnels get besides."""
        return self.setup.ztunnel_environment

    def log(self, node):
        return f"ztunnel-{node}.log"

    def verify(self):
        """The access log of the server's node must name the client by its certificate."""
        log = self.world.path(self.log("node-b"))
        for account in ("client", "quiet"):
            line = f'src.identity="{PREFIX}{account}"'
            if not contains(log, line):
                eventually(f"{line} in the access log", lambda: contains(log, line))


class OursNewer(Ours):
    """The same binaries with a newer libssl than the distribution's."""

    key, title = "newer", "ours+"

    def environment(self):
        return {**super().environment(), "LD_LIBRARY_PATH": str(self.setup.libssl)}


SYSTEMS = {system.key: system for system in (System, Envoy, HAProxy, Relay, Ours, OursNewer)}


def open_files_needed(system, connections):
    return connections * system.files_per_connection + 1000


def require_known(keys):
    for key in keys:
        if key not in SYSTEMS:
            raise BenchmarkError(f"no system '{key}': there are {', '.join(SYSTEMS)}")
