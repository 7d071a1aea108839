"""What is measured: each function takes a running system and returns figures of one round."""

import json
import re
import time

from processes import BenchmarkError, cpu_seconds, resident_bytes
from world import BULK, CALM, HERE, NEIGHBOUR, SERVER, WEB

GIGABYTE = 1e9
KIBIBYTE, MEBIBYTE = 1024, 1 << 20


class Meter:
    """CPU time of a system's proxies between two moments."""

    def __init__(self, system):
        self.processes = system.proxies + system.agents
        self.before = cpu_seconds(self.processes)

    def seconds(self):
        return cpu_seconds(self.processes) - self.before


def iperf(system, role, port, seconds, streams=1, reverse=False, target=None):
    """One iperf3 test; returns bytes received, seconds, and the proxies' CPU seconds."""
    server = system.world.listen(port)
    host, local = target or system.target(port)
    command = ["iperf3", "--client", host, "--port", local, "--time", seconds, "--parallel", streams, "--json"]
    meter = Meter(system)
    client = system.world.begin(system.place(role) if target is None else role, command + ["--reverse"] * reverse)
    report = json.loads(system.world.end(client, seconds + 30))
    cpu = meter.seconds()
    system.world.end(server, 10)
    if "error" in report:
        raise BenchmarkError(f"iperf3 through {system.title}: {report['error']}")
    received = report["end"]["sum_received"]
    return received["bytes"], received["seconds"], cpu


def bulk(streams, reverse=False):
    def measure(system, options):
        received, seconds, cpu = iperf(system, "client", BULK, options.seconds, streams, reverse)
        return {"gbit_per_s": received * 8 / seconds / GIGABYTE, "cpu_s_per_gb": cpu / (received / GIGABYTE)}
    return measure


def passthrough(system, options):
    """A client outside of the mesh, in plaintext, straight to the pod."""
    target = (SERVER, BULK)
    received, seconds, cpu = iperf(system, "outside", BULK, options.seconds, target=target)
    return {"gbit_per_s": received * 8 / seconds / GIGABYTE, "cpu_s_per_gb": cpu / (received / GIGABYTE)}


def wrk_command(system, connections, seconds, closing):
    host, port = system.target(WEB)
    threads = min(2, connections)
    header = ["--header", "Connection: close"] if closing else []
    return ["wrk", "--threads", threads, "--connections", connections, "--duration", f"{seconds}s", "--latency",
            "--timeout", "10s", "--script", HERE / "wrk.lua", *header, f"http://{host}:{port}/"]


def wrk(system, connections, seconds, closing=False):
    meter = Meter(system)
    client = system.world.begin(system.place("client"), wrk_command(system, connections, seconds, closing))
    output = system.world.end(client, seconds + 30)
    cpu = meter.seconds()
    found = re.search(r"^JSON (.*)$", output, re.MULTILINE)
    if not found:
        raise BenchmarkError(f"wrk through {system.title} said: {output[-400:]}")
    result = json.loads(found.group(1))
    if result["requests"] == 0:
        raise BenchmarkError(f"wrk through {system.title}: no request was answered")
    return result, cpu


def requests(connections):
    def measure(system, options):
        result, cpu = wrk(system, connections, options.seconds)
        return {
            "per_s": result["requests"] / result["seconds"], "cpu_us": cpu * 1e6 / result["requests"],
            "p50_us": result["p50"], "p99_us": result["p99"], "p99.9_us": result["p99.9"], "errors": result["errors"]}
    return measure


def connections(system, options):
    """Each request on a connection of its own, 64 at a time."""
    result, cpu = wrk(system, 64, options.seconds, closing=True)
    return {"per_s": result["requests"] / result["seconds"], "cpu_us": cpu * 1e6 / result["requests"],
            "p99_us": result["p99"], "errors": result["errors"]}


def quiet_p99(system, seconds):
    host, port = system.target(CALM)
    client = system.world.client(system.place("quiet"), "quiet", host, port, seconds, nice=-10)
    latencies = sorted(json.loads(system.world.end(client, seconds + 60)))
    return latencies[min(len(latencies) - 1, int(len(latencies) * 0.99))]


def fairness(system, options):
    """A quiet pod's p99 alone, beside a pod that moves bytes, and beside one that opens connections."""
    seconds = max(2, options.seconds)
    alone = quiet_p99(system, seconds)

    server = system.world.listen(NEIGHBOUR)
    host, port = system.target(NEIGHBOUR)
    neighbour = system.world.begin(
        system.place("client"),
        ["iperf3", "--client", host, "--port", port, "--time", seconds + 2, "--parallel", 4, "--json"])
    time.sleep(0.5)
    beside_bytes = quiet_p99(system, seconds)
    system.world.end(neighbour, seconds + 30)
    system.world.end(server, 10)

    neighbour = system.world.begin(system.place("client"), wrk_command(system, 64, seconds + 2, closing=True))
    time.sleep(0.5)
    beside_connections = quiet_p99(system, seconds)
    system.world.end(neighbour, seconds + 30)
    return {
        "alone_p99_us": alone, "bytes_p99_us": beside_bytes, "connections_p99_us": beside_connections,
        "bytes_ratio": beside_bytes / alone, "connections_ratio": beside_connections / alone}


# Connections that are open before memory is compared: what the first ones bring with them, a tunnel and the code to carry
# them, is not what one more costs.
FIRST = 100


def memory(system, counts):
    """Resident memory of a freshly started system, and what idle tunnelled connections add to it."""
    time.sleep(1)
    idle = resident_bytes(system.proxies)
    figures = {"idle_mib": idle / MEBIBYTE}
    if system.agents:
        figures["agents_idle_mib"] = resident_bytes(system.agents) / MEBIBYTE
    both = system.proxies + system.agents
    host, port = system.target(WEB)
    client = system.world.client(system.place("client"), "hold", host, port, stdin=-1)

    def resident_with(count):
        client.stdin.write(f"{count}\n".encode())
        client.stdin.flush()
        if client.stdout.readline().strip() != str(count).encode():
            raise BenchmarkError(f"{count} idle connections through {system.title} could not be opened; see {client.log}")
        time.sleep(2)
        return resident_bytes(both)

    before = resident_with(FIRST)
    for count in counts:
        figures[f"per_connection_kib_{count}"] = (resident_with(FIRST + count) - before) / KIBIBYTE / count
    client.stdin.close()
    client.stdin = None
    system.world.end(client, 30)
    return figures


MEASURES = {
    "bulk": {"bulk-1": bulk(1), "bulk-4": bulk(4), "bulk-16": bulk(16), "bulk-reverse": bulk(1, reverse=True)},
    "requests": {"requests-1": requests(1), "requests-64": requests(64), "requests-512": requests(512)},
    "connections": {"connections": connections},
    "passthrough": {"passthrough": passthrough},
    "fairness": {"fairness": fairness},
}
# Which systems a measure makes sense for; all of them, if it is not here.
SYSTEMS_OF = {"passthrough": ("direct", "ours"), "fairness": ("direct", "envoy", "ours", "newer")}
GROUPS = (*MEASURES, "memory")
