#!/usr/bin/env python3
"""Runs as root in a machine whose PID 1 is systemd: types what docs/systemd.md says, then disturbs what came of it.

usage: bare_metal.py DIRECTORY-OF-THE-PACKAGE docs/systemd.md"""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from machine import DAEMONS, documented, drop_in, expect, fetch, in_namespace, journal, ok, run, show, until

PACKAGE, GUIDE = sys.argv[1:]
AGENT, ZTUNNEL = DAEMONS
WEB = "/run/netns/web"
API = "10.77.0.3"
SOCKET = "/run/ztunnel/ztunnel.sock"


class Traffic:
    """Short connections from web to api, one after the other, until it is stopped."""

    def __init__(self):
        self.served = 0
        self.refused = []
        self.broken = []
        self.running = True
        self.thread = threading.Thread(target=in_namespace, args=(WEB, self.loop))
        self.thread.start()

    def loop(self):
        while self.running:
            try:
                answer = fetch(API)
                if answer.startswith("HTTP/1.0 200"):
                    self.served += 1
                else:
                    self.broken.append(answer or "nothing came")
            except OSError as error:
                # A reset is what somebody sees whose connection was alive in a process that was killed.
                hurt = self.broken if error.errno == errno.ECONNRESET else self.refused
                hurt.append(str(error))
            time.sleep(0.01)

    def stop(self):
        self.running = False
        self.thread.join()


def typed():
    """The ten lines of the guide."""
    lines = [line.removeprefix("# ") for line in documented(GUIDE)]
    expect("the guide has ten lines or less", 1 < len(lines) <= 10, len(lines))
    for line in lines[:-1]:
        done = subprocess.run(["bash", "-c", line], cwd=PACKAGE, capture_output=True, text=True)
        expect(f"typed: {line}", done.returncode == 0, f"{done.stdout}{done.stderr}")
        if "curl" in line:
            expect("api answered web", "Directory listing" in done.stdout, done.stdout)

    def told():
        done = subprocess.run(["bash", "-c", lines[-1]], capture_output=True, text=True)
        return [entry for entry in done.stdout.splitlines()
                if 'src.identity="spiffe://cluster.local/ns/shop/sa/web"' in entry
                and 'dst.identity="spiffe://cluster.local/ns/shop/sa/api"' in entry]
    until(f"typed: {lines[-1]}", told)


def installed():
    for unit in [f"{name}.service" for name in DAEMONS] + [f"{AGENT}.socket", "ambient-netns@web.service"]:
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
        expect(f"systemd has nothing to say against {unit}", done.returncode == 0 and not done.stderr.strip(), done.stderr)
    expect("the daemons are enabled", all(run("systemctl", "is-enabled", unit) == "enabled" for unit in DAEMONS))
    expect("node-agent status is content", "PROVEN" in run("node-agent", "status"))
    expect("ztunnel status is content", run("ztunnel", "status") != "")
    for mode, path in [("700", "/etc/ambient/ca"), ("600", "/etc/ambient/ca/ca-key.pem"), ("600", SOCKET)]:
        expect(f"{path} is for root only", run("stat", "-c", "%a", path) == mode, run("stat", "-c", "%a", path))
    environment = open(f"/proc/{show(ZTUNNEL, 'MainPID')}/environ").read().split("\0")
    expect("ztunnel has the authority as credentials", f"LOCAL_CA_PATH=/run/credentials/{ZTUNNEL}.service" in environment)


def journal_fields():
    entries = until("the journal finds a connection by its workload", lambda: journal(
        "SRC_WORKLOAD=web", "DST_WORKLOAD=api", "DIRECTION=inbound"))
    # The first ones may tell of a server that was not up yet.
    entry = entries[-1]
    expected = {
        "_SYSTEMD_UNIT": f"{ZTUNNEL}.service", "SYSLOG_IDENTIFIER": "ztunnel", "PRIORITY": "6",
        "SRC_NAMESPACE": "shop", "SRC_IDENTITY": "spiffe://cluster.local/ns/shop/sa/web",
        "DST_IDENTITY": "spiffe://cluster.local/ns/shop/sa/api",
    }
    wrong = {name: entry.get(name) for name, value in expected.items() if entry.get(name) != value}
    expect("its fields are those of the access log", not wrong, wrong)
    expect("no second time is in its message", entry["MESSAGE"][:2] != "20", entry["MESSAGE"])
    agents = journal("-u", AGENT)
    expect("the agent's entries have fields too", any("TARGET" in entry for entry in agents), agents)


def policy():
    """A policy by editing the file; a file with an error changes nothing."""
    mesh = "/etc/ambient/mesh/mesh.yaml"
    good = open(mesh).read()

    def replace(text):
        with open(mesh + ".new", "w") as file:
            file.write(text)
        os.rename(mesh + ".new", mesh)

    def answered():
        try:
            return in_namespace(WEB, lambda: fetch_or_none(API))
        except OSError:
            return None

    rule = ("policies:\n- {name: no-web, namespace: shop, scope: Namespace, action: Deny, dryRun: false,\n"
            "   rules: [[[{principals: [cluster.local/ns/shop/sa/web]}]]]}\n")
    replace(good + rule)
    until("a policy is in force that was written into the file", lambda: answered() is None)
    until("the journal finds who was denied", lambda: journal("ERROR_CODE=POLICY_DENIED", "SRC_WORKLOAD=web"))
    replace(good + "policies: [\n")
    until("a file with an error is refused, with its place", lambda: [
        entry for entry in journal("-u", ZTUNNEL, "PRIORITY=3") + journal("-u", ZTUNNEL, "PRIORITY=4")
        if "mesh.yaml" in str(entry) and "line" in entry["MESSAGE"]])
    expect("what was in force stays in force", answered() is None)
    replace(good)
    until("the policy is gone with its lines", answered)


def fetch_or_none(address):
    try:
        return fetch(address)
    except OSError:
        return None


def disturbed():
    """Either daemon restarted and killed, under load."""
    def alive(unit, before):
        return lambda: show(unit, "ActiveState") == "active" and show(unit, "MainPID") not in ("0", before)

    for unit in DAEMONS:
        inode = os.stat(SOCKET).st_ino
        for what, disturb in [
            ("restarted", lambda main: run("systemctl", "restart", unit)),
            ("killed", lambda main: os.kill(int(main), signal.SIGKILL)),
        ]:
            traffic = Traffic()
            until(f"{unit} will be {what}: connections are served", lambda: traffic.served > 3)
            before = show(unit, "MainPID")
            disturb(before)
            until(f"{unit} was {what}: the next one is there", alive(unit, before), 60)
            served = traffic.served
            until(f"{unit} was {what}: connections are served", lambda: traffic.served > served + 10)
            traffic.stop()
            print(f"   {traffic.served} served, {len(traffic.broken)} broken, {len(traffic.refused)} refused", flush=True)
            expect(f"{unit} was {what}: no connection was refused", not traffic.refused, traffic.refused)
            if what == "restarted" or unit == AGENT:
                expect(f"{unit} was {what}: none broke", not traffic.broken, traffic.broken)
        expect(f"{unit}: the socket between them is the same", os.stat(SOCKET).st_ino == inode)
    until("the agent sees ztunnel again", lambda: "PROVEN" in run("node-agent", "status", check=False))


def held():
    """A connection from web to api in the middle of its request."""
    connection = socket.create_connection((API, 8080), timeout=20)
    connection.sendall(b"GET / HTTP/1.0\r\n")
    return connection


def finished(connection):
    """The first line of the answer to a request that is complete only now."""
    connection.sendall(b"\r\n")
    answer = b""
    while chunk := connection.recv(65536):
        answer += chunk
    connection.close()
    return answer.split(b"\r\n")[0].decode()


def unnoticed(what, act):
    """Something that must lose no connection, under load, with one open all the while."""
    traffic = Traffic()
    until(f"before {what}: connections are served", lambda: traffic.served > 3)
    open_one = in_namespace(WEB, held)
    act()
    served = traffic.served
    until(f"{what}: connections are served", lambda: traffic.served > served + 10)
    traffic.stop()
    expect(f"{what}: no connection was refused, none broke", not traffic.refused + traffic.broken,
           traffic.refused + traffic.broken)
    answer = finished(open_one)
    expect(f"{what}: what was open goes on", answer.startswith("HTTP/1.0 200"), answer)


def replaced():
    """What the guide says of upgrades: open connections run on, and the service has another main process."""
    command = documented(GUIDE, "## Upgrades")[0].removeprefix("# ")
    before, restarts = show(ZTUNNEL, "MainPID"), show(ZTUNNEL, "NRestarts")

    def replace():
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
        expect(f"typed: {command}", done.returncode == 0 and "has taken over" in done.stdout, done.stdout + done.stderr)
        until("ztunnel was replaced: the service has another main process", lambda: show(ZTUNNEL, "MainPID") != before)
        expect("ztunnel was replaced: the service is active, and was not restarted",
               show(ZTUNNEL, "ActiveState") == "active" and show(ZTUNNEL, "NRestarts") == restarts)
        expect("ztunnel was replaced: the older process has open connections", os.path.exists(f"/proc/{before}"))

    unnoticed("ztunnel was replaced", replace)
    until("ztunnel was replaced: the older process ends with its last connection",
          lambda: not os.path.exists(f"/proc/{before}"))
    expect("ztunnel was replaced: the service goes on", show(ZTUNNEL, "ActiveState") == "active")
    expect("ztunnel was replaced: status asks the new one", run("ztunnel", "status") != "")


def upgraded():
    """Another version of the package: its scripts replace what runs."""
    before = [show(unit, "MainPID") for unit in DAEMONS]

    def install():
        run("bash", "-c", f"dpkg --install {PACKAGE}/ambient-mesh_*.deb")
        until("the package was upgraded: both daemons are new", lambda: all(
            show(unit, "ActiveState") == "active" and show(unit, "MainPID") not in ("0", old)
            for unit, old in zip(DAEMONS, before)), 60)

    unnoticed("the package was upgraded", install)
    # Although the agent was restarted meanwhile, and has found both.
    until("the package was upgraded: the older ztunnel ends with its last connection",
          lambda: not os.path.exists(f"/proc/{before[1]}"))


def socket_activation():
    """ztunnel's connection to the socket alone starts the agent."""
    run("systemctl", "stop", f"{AGENT}.service")
    expect("the socket unit holds the socket", show(f"{AGENT}.socket", "ActiveState") == "active")
    until("who connects to the socket starts the agent", lambda: show(AGENT, "ActiveState") == "active")
    until("and finds it", lambda: run("node-agent", "status", check=False).count("PROVEN") >= 2)


def batch_service():
    """A service with PrivateNetwork=, as it is described to systemd, to the agent and to the mesh."""
    with open("/etc/systemd/system/batch.service", "w") as file:
        file.write("[Service]\nPrivateNetwork=yes\nDynamicUser=yes\n"
                   "ExecStart=/usr/bin/python3 -m http.server --directory /usr/share/doc/ambient-mesh 8080\n")
    run("systemctl", "daemon-reload")
    with open("/etc/ambient/mesh/mesh.yaml", "a") as file:
        file.write("- {uid: batch, name: batch, namespace: shop, serviceAccount: batch, workloadIps: [10.77.0.4], "
                   f"node: {socket.gethostname()}, protocol: HBONE, services: {{}}}}\n")
    with open("/etc/ambient/workloads.d/batch.yaml", "w") as file:
        file.write("name: batch\nnamespace: shop\nserviceAccount: batch\nunit: batch.service\n")


def private_network():
    """It is found by its unit, and again after it was restarted."""
    for time_ in ("first", "second"):
        run("systemctl", "restart", "batch.service")
        main = show("batch.service", "MainPID")
        until(f"{time_}: its process is in a namespace of its own", lambda: os.readlink(f"/proc/{main}/ns/net")
              != os.readlink("/proc/self/ns/net"))
        until(f"{time_}: nobody holds an older one", lambda: "batch" not in run("ip", "-br", "link"), 60)
        # Always the same address, so that neighbours need not learn another.
        run("ip", "link", "add", "batch", "type", "veth", "peer", "name", "eth0", "address", "02:00:0a:4d:00:04",
            "netns", main)
        run("ip", "link", "set", "batch", "master", "ambient0", "up")
        for words in ("address add 10.77.0.4/24 dev eth0", "link set eth0 up", "route add default via 10.77.0.1"):
            run("nsenter", f"--net=/proc/{main}/ns/net", "ip", *words.split())
        until(f"{time_}: batch is proven by the name of its unit", lambda: any(
            "batch" in line and "PROVEN" in line for line in run("node-agent", "status", check=False).splitlines()))
        until(f"{time_}: it answers", lambda: in_namespace(WEB, lambda: fetch_or_none("10.77.0.4")))
        until(f"{time_}: its identity is in the journal", lambda: journal(
            "DST_WORKLOAD=batch", "DST_IDENTITY=spiffe://cluster.local/ns/shop/sa/batch"))


def sandbox():
    """Nothing failed for want of a permission; and nothing dies where the filter kills instead of refusing."""
    def complaints():
        words = ("Operation not permitted", "Permission denied", "EPERM", "SIGSYS", "errno=1", "status=31", "core-dump")
        return [entry["MESSAGE"] for unit in DAEMONS for entry in journal("-u", unit)
                if any(word in str(entry.get("MESSAGE")) for word in words)]
    expect("nothing was refused to the daemons", not complaints(), complaints())
    for unit in DAEMONS:
        drop_in(unit, "[Service]\nSystemCallErrorNumber=kill\n")
        run("systemctl", "restart", unit)
    restarts = [show(unit, "NRestarts") for unit in DAEMONS]
    private_network()
    until("with a filter that kills: requests are answered", lambda: in_namespace(WEB, lambda: fetch_or_none(API)))
    run("systemctl", "reload", *DAEMONS)
    until("with a filter that kills: they serve after SIGHUP", lambda: in_namespace(WEB, lambda: fetch_or_none(API)))
    run("ztunnel", "upgrade")
    until("with a filter that kills: they serve after an upgrade", lambda: in_namespace(WEB, lambda: fetch_or_none(API)))
    expect("with a filter that kills: none was killed", restarts == [show(unit, "NRestarts") for unit in DAEMONS]
           and not complaints(), complaints())


def watchdog():
    """A daemon that stands still is replaced."""
    for unit in DAEMONS:
        drop_in(unit, "[Service]\nWatchdogSec=2\nTimeoutAbortSec=1\n")
        run("systemctl", "restart", unit)
        before = show(unit, "MainPID")
        os.kill(int(before), signal.SIGSTOP)
        until(f"{unit} stood still: systemd replaced it",
              lambda: show(unit, "MainPID") not in ("0", before) and show(unit, "ActiveState") == "active", 60)
        until(f"{unit} stood still: the journal says why", lambda: [
            entry for entry in journal("_PID=1") if "Watchdog timeout" in entry["MESSAGE"] and unit in entry["MESSAGE"]])
    until("both are whole again", lambda: in_namespace(WEB, lambda: fetch_or_none(API)))


def uninstalled():
    """What the guide says of going."""
    for name in ("web", "api"):
        run("systemctl", "stop", "api.service", check=False)
        run("ambient-netns", "remove", name)
    run("systemctl", "disable", "--now", *DAEMONS)
    shipped = [path for path in run("dpkg", "-L", "ambient-mesh").splitlines() if os.path.isfile(path)]
    expect("the package has files", len(shipped) > 10, shipped)
    run("apt-get", "purge", "--yes", "ambient-mesh")
    left = [path for path in shipped + ["/run/ambient", "/run/ztunnel", "/usr/share/doc/ambient-mesh"] if os.path.exists(path)]
    left += run("find", "/etc/systemd/system", "-name", "*ambient*").splitlines()
    expect("nothing of the package is left", not left, left)
    expect("keys and mesh are the administrator's", os.path.exists("/etc/ambient/ca/ca-key.pem"))


typed()
installed()
journal_fields()
policy()
disturbed()
replaced()
upgraded()
socket_activation()
batch_service()
private_network()
sandbox()
watchdog()
uninstalled()
ok("all of it")
