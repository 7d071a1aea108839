"""The pods of one system under test: the same namespaces, addresses and applications for each of them."""

import os
import pathlib
import re
import subprocess
import sys

from processes import BenchmarkError, eventually, run, tail

HERE = pathlib.Path(__file__).resolve().parent

SERVER = "10.77.1.1"
ADDRESSES = {"client": "10.77.1.2", "quiet": "10.77.2.2", "outside": "10.77.3.2"}
WEB, CALM, BULK, NEIGHBOUR = 8080, 8081, 5201, 5202
APPLICATION_PORTS = (WEB, CALM, BULK, NEIGHBOUR)

# Many short connections run out of ports and of conntrack entries long before they run out of CPU.
SETTINGS = {
    "net/ipv4/ip_local_port_range": "20000 65535",
    "net/ipv4/tcp_tw_reuse": "1",
    "net/ipv4/tcp_max_syn_backlog": "8192",
    "net/core/somaxconn": "8192",
}
# BBR, the default of some machines, paces every connection with timers, also on loopback: what is measured then is the
# pacing. The kernel's own default is the same for everybody who compares.
CONGESTION_CONTROL = "cubic"
CONNTRACK_SETTINGS = {
    f"net/netfilter/nf_conntrack_tcp_timeout_{state}": seconds
    for state, seconds in (("time_wait", "1"), ("close", "1"), ("fin_wait", "5"), ("close_wait", "5"), ("last_ack", "5"))
}

NGINX = """
user root;
worker_processes 2;
daemon off;
pid {directory}/{name}.pid;
error_log {directory}/{name}.log warn;
events {{ worker_connections {connections}; }}
http {{
  access_log off;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  client_header_timeout 3600s;
  open_file_cache max=16;
  client_body_temp_path {directory}/{name}-body;
  proxy_temp_path {directory}/{name}-proxy;
  fastcgi_temp_path {directory}/{name}-fastcgi;
  uwsgi_temp_path {directory}/{name}-uwsgi;
  scgi_temp_path {directory}/{name}-scgi;
  server {{ listen {port} backlog=8192; root {directory}/www; }}
}}
"""


class World:
    """Three client pods, each with a veth of its own to the server pod, and two nodes for the proxies' threads."""

    def __init__(self, ledger, label):
        self.ledger = ledger
        self.prefix = f"{ledger.tag}-{label}"
        self.directory = os.path.join(ledger.directory, label)
        os.makedirs(self.directory)
        self.namespaces = []
        self.processes = []
        self.clients = []
        for role in ("server", "client", "quiet", "outside", "node-a", "node-b"):
            ledger.namespace(self.namespace(role))
            self.namespaces.append(self.namespace(role))
        for number, role in enumerate(("client", "quiet", "outside"), start=1):
            self.connect(role, number)
        for role in ("server", "client", "quiet", "outside"):
            self.configure(role, {**SETTINGS, **self.congestion_control(ledger)})
        self.start_applications()

    @staticmethod
    def congestion_control(ledger):
        name = ledger.congestion_control
        return {} if name == "host" else {"net/ipv4/tcp_congestion_control": name}

    def namespace(self, role):
        return f"{self.prefix}-{role}"

    def path(self, name):
        return os.path.join(self.directory, name)

    def connect(self, role, number):
        pod, server = self.namespace(role), self.namespace("server")
        run(["ip", "-n", pod, "link", "add", "eth0", "type", "veth", "peer", "name", f"eth{number}", "netns", server])
        for where, device, address in ((pod, "eth0", ADDRESSES[role]), (server, f"eth{number}", f"10.77.{number}.1")):
            run(["ip", "-n", where, "link", "set", device, "up"])
            run(["ip", "-n", where, "addr", "add", f"{address}/24", "dev", device])
        run(["ip", "-n", pod, "route", "add", "default", "via", f"10.77.{number}.1"])

    def configure(self, role, settings):
        """Sets what the kernel has; conntrack's settings exist only where conntrack is in use."""
        for key, value in settings.items():
            subprocess.run(
                ["nsenter", f"--net=/run/netns/{self.namespace(role)}", "sh", "-c",
                 f"[ ! -e /proc/sys/{key} ] || echo '{value}' >/proc/sys/{key}"],
                stderr=subprocess.DEVNULL, check=False)

    def start(self, role, command, log, **options):
        process = self.ledger.start(self.namespace(role), command, self.path(log), **options)
        self.processes.append(process)
        return process

    def start_applications(self):
        os.makedirs(self.path("www"))
        pathlib.Path(self.path("www"), "index.html").write_text("one small file\n")
        for name, port, nice in (("web", WEB, 0), ("calm", CALM, -10)):
            configuration = NGINX.format(
                directory=self.directory, name=name, port=port, connections=self.ledger.open_files - 100)
            pathlib.Path(self.path(f"{name}.conf")).write_text(configuration)
            command = ["nginx", "-p", self.directory, "-c", self.path(f"{name}.conf")]
            self.start("server", command, f"{name}.out", nice=nice)

    def begin(self, role, command, **options):
        """Starts a load generator whose output is wanted."""
        process = self.ledger.start(
            self.namespace(role), command, self.path("clients.log"), stdout=subprocess.PIPE, **options)
        self.clients.append(process)
        return process

    def end(self, process, timeout):
        self.clients.remove(process)
        return self.ledger.finish(process, timeout)

    def abandon(self):
        """Ends the load generators that a failed measurement has left behind."""
        self.ledger.stop(self.clients)
        self.clients.clear()

    def client(self, role, *arguments, **options):
        """Starts one of the benchmark's own clients."""
        return self.begin(role, [sys.executable, HERE / "clients.py", *arguments], **options)

    def listen(self, port):
        """A fresh iperf3 server, ready, that ends after one test."""
        process = self.begin("server", ["iperf3", "--server", "--one-off", "--forceflush", "--port", port])
        while True:
            line = process.stdout.readline()
            if not line:
                raise BenchmarkError(f"iperf3 does not listen on {port}{tail(process.log)}")
            if re.search(rb"listening on", line):
                return process

    def wait_for_web(self, role, host, port, require_alive):
        """Waits until the web server answers over this path; `require_alive` throws when that is hopeless."""
        def answers():
            require_alive()
            probe = self.client(role, "probe", host, port)
            try:
                return self.end(probe, 10).strip() == "ok"
            except BenchmarkError:
                return False
        eventually(f"an answer from {host}:{port} in {self.namespace(role)}", answers, 20)

    def close(self):
        self.abandon()
        self.ledger.stop(list(reversed(self.processes)))
        self.ledger.remove(self.namespaces)
