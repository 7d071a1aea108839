"""Measures what a large mesh costs ztunnel: loading it, holding it, changing it, and what connections notice of that.
Benchmarks/README.md says how to read it."""

import argparse
import json
import os
import pathlib
import platform
import signal
import statistics
import subprocess
import sys
import time

import machine
from certificates import Certificates
from processes import BenchmarkError, Ledger, contains, eventually, run, tail
from world import HERE

SERVER, CLIENT, NODE = "10.77.1.1", "10.77.1.2", "node-a"
BIG, SMALL = "10.255.0.1", "10.255.0.2"
SIZES = (100, 1_000, 10_000, 100_000)
QUICK_SIZES = (100, 10_000)
MEBIBYTE = 1 << 20
PORT = 15012

# What is promised of the largest mesh: figure, limit, unit.
TARGETS = (
    ("load_seconds", 10, "s"), ("resident_mib", 150, "MiB"), ("change_ms", 5, "ms"),
    ("reconnect_added_ms", 20, "ms"), ("resend_added_ms", 20, "ms"),
    ("kept_load_seconds", 10, "s"), ("kept_resident_mib", 150, "MiB"), ("kept_change_ms", 5, "ms"))


class Plane:
    """The control plane's process, and its commands."""

    def __init__(self, world, python):
        certificates = world.certificates
        certificates.issue_server("plane")
        self.process = world.start(
            "node", [python, HERE / "scale_plane.py", PORT, certificates.key("plane"), certificates.chain("plane")],
            "plane.log", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise BenchmarkError(f"the control plane has ended{tail(self.process.log)}")
        answer = json.loads(line)
        if "error" in answer:
            raise BenchmarkError(answer["error"] + tail(self.process.log))
        return answer

    def __call__(self, command, **arguments):
        self.process.stdin.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
        self.process.stdin.flush()
        return self.read()


class ServerCertificates(Certificates):
    """The authority's, and one for the control plane."""

    def issue_server(self, name):
        request, leaf, extensions = self.path(f"{name}.csr"), self.path(f"{name}-leaf.pem"), self.path(f"{name}.ext")
        pathlib.Path(extensions).write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
        run(["openssl", "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-subj", "/", "-keyout", self.key(name), "-out", request])
        run(["openssl", "x509", "-req", "-in", request, "-CA", os.path.join(self.authority, "ca-cert.pem"),
             "-CAkey", os.path.join(self.authority, "ca-key.pem"), "-set_serial", "4711", "-days", "2", "-sha256",
             "-extfile", extensions, "-out", leaf])
        chain = pathlib.Path(leaf).read_text() + pathlib.Path(self.authority, "cert-chain.pem").read_text()
        pathlib.Path(self.chain(name)).write_text(chain)


class World:
    """A node with two pods, both in the mesh: connections between them show what the data path notices."""

    def __init__(self, ledger, options, certificates, label):
        self.ledger, self.options, self.certificates, self.label = ledger, options, certificates, label
        self.processes = []
        for role in ("node", "client", "server"):
            ledger.namespace(self.namespace(role))
        run(["ip", "-n", self.namespace("client"), "link", "add", "eth0", "type", "veth", "peer", "name", "eth0",
             "netns", self.namespace("server")])
        for role, address in (("client", CLIENT), ("server", SERVER)):
            run(["ip", "-n", self.namespace(role), "addr", "add", f"{address}/24", "dev", "eth0"])
            run(["ip", "-n", self.namespace(role), "link", "set", "eth0", "up"])
        run(["ip", "-n", self.namespace("client"), "route", "add", "default", "via", SERVER])
        self.start("server", [sys.executable, HERE / "scale_probe.py", "serve"], "application.log")

    def namespace(self, role):
        return f"{self.ledger.tag}-{self.label}-{role}"

    def path(self, name):
        return os.path.join(self.ledger.directory, f"{self.label}-{name}")

    def start(self, role, command, log, **options):
        process = self.ledger.start(self.namespace(role), command, self.path(log), **options)
        self.processes.append(process)
        return process

    def start_proxy(self, environment=None):
        pods = pathlib.Path(self.path("pods"))
        pods.mkdir()
        for pod in ("client", "server"):
            (pods / f"{pod}.yaml").write_text(
                f"name: {pod}\nnamespace: bench\nserviceAccount: {pod}\n"
                f"netns: /run/netns/{self.namespace(pod)}\n")
        socket = self.path("zds.sock")
        self.start(
            "node", [self.options.node_agent, "run", "--workloads", pods, "--ztunnel-uds-address", socket],
            "node-agent.log", environment={"AMBIENT_STATE_DIRECTORY": self.path("state")})
        proxy = self.start("node", [self.options.ztunnel], "ztunnel.log", environment={
            "XDS_ADDRESS": f"https://127.0.0.1:{PORT}", "XDS_ROOT_CA": self.certificates.root,
            "LOCAL_CA_PATH": self.certificates.authority, "NODE_NAME": NODE, "INPOD_UDS": socket,
            "CLUSTER_ID": "cluster-1", "ZTUNNEL_WORKER_THREADS": "2",
            **(environment or {}), **dict(pair.split("=", 1) for pair in self.options.env)})
        self.proxy = proxy
        return proxy

    def wait_for_pods(self):
        for pod in ("client", "server"):
            eventually(
                f"ztunnel to serve {pod}", lambda: contains(self.path("ztunnel.log"), f'workload="bench/{pod}"'), 30)

    def close(self):
        self.ledger.stop(list(reversed(self.processes)))
        self.ledger.remove([self.namespace(role) for role in ("node", "client", "server")])


class Probe:
    """Opens connections from the client pod to the server pod, one each 5 ms, while it is asked to."""

    def __init__(self, world, address=SERVER, port=8080, seconds=None):
        self.world = world
        self.process = world.ledger.start(
            world.namespace("client"),
            [sys.executable, HERE / "scale_probe.py", "connect", address, port, seconds or 0],
            world.path("probe.log"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, nice=-10)

    def end(self):
        """Milliseconds of each connection from connect to answer."""
        output = self.world.ledger.finish(self.process, 60)
        return json.loads(output)


def noticed(world, body):
    """What connections take while `body` runs, and what `body` returns."""
    probe = Probe(world)
    time.sleep(0.3)
    result = body()
    time.sleep(0.3)
    return result, probe.end()


def memory(process):
    """Resident memory now and at its highest, in MiB."""
    with open(f"/proc/{process.pid}/status") as file:
        fields = dict(line.split(":", 1) for line in file if line.startswith(("VmRSS", "VmHWM")))
    return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


def reconnect(plane, rename):
    plane("cut", rename=rename)
    return plane("subscription")


def milliseconds(seconds):
    return statistics.median(seconds) * 1000


def load(world, plane, workloads, environment=None):
    """Starts the proxy, which takes the mesh."""
    plane("build", workloads=workloads)
    begun = time.monotonic()
    world.start_proxy(environment)
    first = plane("subscription")
    figures = {"bytes": first["bytes"], "load_seconds": first["seconds"],
               "start_to_loaded_seconds": time.monotonic() - begun}
    world.wait_for_pods()
    Probe(world, seconds=0.5).end()
    time.sleep(1)
    figures["resident_mib"], figures["peak_mib"] = memory(world.proxy)
    return figures


def measure_kept(world, plane, workloads, repeats, progress):
    """What it costs to keep the mesh in a sealed snapshot besides."""
    progress("load, kept in a snapshot")
    key, kept = pathlib.Path(world.path("key")), pathlib.Path(world.path("kept"))
    key.write_bytes(os.urandom(32))
    figures = load(
        world, plane, workloads, {"AMBIENT_SNAPSHOT_PATH": str(kept), "AMBIENT_SNAPSHOT_KEY": str(key)})
    figures["change_ms"] = milliseconds(plane("change", times=repeats, index=workloads - 1)["seconds"])
    sealed = kept / "mesh.sealed"
    size = sealed.stat().st_size
    # Twice everything is more than the file may grow: it is written anew meanwhile.
    _, times = noticed(world, lambda: [reconnect(plane, rename=True) for _ in range(2)])
    figures["connection_max_ms"] = max(times)
    figures["resident_after_mib"], figures["peak_after_mib"] = memory(world.proxy)
    figures["file_bytes"], figures["file_after_bytes"] = size, sealed.stat().st_size
    return {f"kept_{name}": value for name, value in figures.items()}


def measure(world, plane, workloads, repeats, progress):
    """All other figures of one size of mesh."""
    progress("load")
    figures = {"workloads": workloads, "services": workloads // 10, **load(world, plane, workloads)}

    progress("changes")
    for name, arguments in (
            ("change", {"command": "change", "index": workloads - 1}),
            ("endpoint_of_big", {"command": "change", "index": 0}), ("policy", {"command": "policy"})):
        answer = plane(times=repeats, **arguments)
        figures[f"{name}_ms"] = milliseconds(answer["seconds"])
        figures[f"{name}_max_ms"] = max(answer["seconds"]) * 1000

    progress("connections")
    calm = Probe(world, seconds=4).end()
    figures["connection_ms"], figures["connection_max_ms"] = statistics.median(calm), max(calm)
    figures["connection_small_ms"] = statistics.median(Probe(world, SMALL, 80, 2).end())
    figures["connection_big_ms"] = statistics.median(Probe(world, BIG, 80, 2).end())

    for name, event in (
            ("changes", lambda: plane("change", times=repeats, index=workloads - 1)),
            ("reconnect", lambda: reconnect(plane, rename=False)),
            ("resend", lambda: reconnect(plane, rename=True)),
            ("remove", lambda: plane("remove", keep=10)),
            ("restore", lambda: plane("restore", workloads=workloads))):
        progress(name)
        result, times = noticed(world, event)
        if name in ("reconnect", "resend", "remove", "restore"):
            figures[f"{name}_seconds"] = result["seconds"]
        figures[f"{name}_connection_max_ms"] = max(times)
        figures[f"{name}_added_ms"] = max(0.0, max(times) - figures["connection_max_ms"])
    time.sleep(1)
    figures["resident_after_mib"], figures["peak_after_mib"] = memory(world.proxy)
    return figures


ROWS = (
    ("mesh as one response", "bytes", lambda value: f"{value / MEBIBYTE:.1f} MiB"),
    ("load: sent to in force", "load_seconds", lambda value: f"{value:.2f} s"),
    ("resident memory, loaded", "resident_mib", lambda value: f"{value:.0f} MiB"),
    ("  at its highest", "peak_mib", lambda value: f"{value:.0f} MiB"),
    ("one workload changed: sent to in force", "change_ms", lambda value: f"{value:.2f} ms"),
    ("one endpoint of the largest service changed", "endpoint_of_big_ms", lambda value: f"{value:.2f} ms"),
    ("one policy changed", "policy_ms", lambda value: f"{value:.2f} ms"),
    ("new connection, calm: median", "connection_ms", lambda value: f"{value:.2f} ms"),
    ("  longest", "connection_max_ms", lambda value: f"{value:.1f} ms"),
    ("  to a service of one endpoint", "connection_small_ms", lambda value: f"{value:.2f} ms"),
    ("  to the largest service", "connection_big_ms", lambda value: f"{value:.2f} ms"),
    ("  longest during single changes", "changes_connection_max_ms", lambda value: f"{value:.1f} ms"),
    ("reconnect, nothing changed: in force", "reconnect_seconds", lambda value: f"{value:.2f} s"),
    ("  longest connection meanwhile", "reconnect_connection_max_ms", lambda value: f"{value:.1f} ms"),
    ("reconnect, all sent again: in force", "resend_seconds", lambda value: f"{value:.2f} s"),
    ("  longest connection meanwhile", "resend_connection_max_ms", lambda value: f"{value:.1f} ms"),
    ("all but ten removed: in force", "remove_seconds", lambda value: f"{value:.2f} s"),
    ("  longest connection meanwhile", "remove_connection_max_ms", lambda value: f"{value:.1f} ms"),
    ("all added again: in force", "restore_seconds", lambda value: f"{value:.2f} s"),
    ("  longest connection meanwhile", "restore_connection_max_ms", lambda value: f"{value:.1f} ms"),
    ("resident memory after all that", "resident_after_mib", lambda value: f"{value:.0f} MiB"),
    ("  at its highest", "peak_after_mib", lambda value: f"{value:.0f} MiB"),
    ("kept in a sealed snapshot: load", "kept_load_seconds", lambda value: f"{value:.2f} s"),
    ("  resident memory, loaded", "kept_resident_mib", lambda value: f"{value:.0f} MiB"),
    ("    at its highest", "kept_peak_mib", lambda value: f"{value:.0f} MiB"),
    ("  file", "kept_file_bytes", lambda value: f"{value / MEBIBYTE:.1f} MiB"),
    ("  one workload changed: on the disk", "kept_change_ms", lambda value: f"{value:.2f} ms"),
    ("  all sent again twice: longest connection", "kept_connection_max_ms", lambda value: f"{value:.1f} ms"),
    ("    resident memory at its highest", "kept_peak_after_mib", lambda value: f"{value:.0f} MiB"),
)


def table(results):
    width = max(len(title) for title, _, _ in ROWS)
    lines = [" " * width + "".join(f"{size['workloads']:>12,}" for size in results) + "  workloads"]
    for title, key, show in ROWS:
        lines.append(title.ljust(width) + "".join(f"{show(size[key]):>12}" for size in results))
    return "\n".join(lines)


def verdicts(results):
    largest = results[-1]
    lines = [
        f"{'✔' if largest[key] <= limit else '✘'} {largest['workloads']:,} workloads: {key} "
        f"{largest[key]:.2f} of at most {limit} {unit}"
        for key, limit, unit in TARGETS]
    ratio = largest["change_ms"] / results[0]["change_ms"]
    lines.append(f"  one changed workload costs {ratio:.2f} times what it costs with {results[0]['workloads']:,}")
    return "\n".join(lines)


def parse(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench-scale", description=__doc__)
    parser.add_argument("--ztunnel", required=True, help="binary to measure")
    parser.add_argument("--node-agent", required=True, help="binary that captures the pods")
    parser.add_argument("--python", required=True, help="an interpreter that has grpcio, for the control plane")
    parser.add_argument("--quick", action="store_true", help="small sizes, few repetitions (also QUICK=1)")
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")], metavar="N,…",
                        help="numbers of workloads")
    parser.add_argument("--repeats", type=int, help="single changes of a kind (200; quick: 30)")
    parser.add_argument("--json", default=".build/bench/scale.json", help="where the results go")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for ztunnel; repeatable")
    parser.add_argument("--keep-logs", action="store_true", help="keep the logs and say where they are")
    options = parser.parse_args(arguments)
    options.quick = options.quick or os.environ.get("QUICK", "") not in ("", "0")
    options.sizes = options.sizes or list(QUICK_SIZES if options.quick else SIZES)
    options.repeats = options.repeats or (30 if options.quick else 200)
    return options


def main():
    options = parse(sys.argv[1:])
    if os.geteuid() != 0:
        sys.exit("run as root: it makes network namespaces")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    ledger = Ledger()
    results, failure = [], None
    try:
        certificates = ServerCertificates(options.ztunnel, ledger.directory)
        for size in options.sizes:
            figures = {}
            for label, part in (("s", measure), ("k", measure_kept)):
                world = World(ledger, options, certificates, f"{label}{size}")
                try:
                    figures |= part(
                        world, Plane(world, options.python), size, options.repeats,
                        lambda what: print(f"{size:,} workloads: {what} …", file=sys.stderr, flush=True))
                finally:
                    world.close()
            results.append(figures)
    except BenchmarkError as error:
        failure = error
    finally:
        ledger.close(options.keep_logs)
        if options.keep_logs:
            print(f"logs are in {ledger.directory}", file=sys.stderr)
    if results:
        print(table(results))
        print()
        print(verdicts(results))
        path = pathlib.Path(options.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        here = {"cpu": machine.cpu(), "cores": len(os.sched_getaffinity(0)), "kernel": platform.release()}
        path.write_text(json.dumps({"machine": here, "sizes": results}, indent=1) + "\n")
    if failure:
        sys.exit(f"bench-scale: {failure}")


main()
