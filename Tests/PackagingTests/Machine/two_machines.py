#!/usr/bin/env python3
"""Runs as root in each of two machines whose PID 1 is systemd, with a wire between them: types what docs/systemd.md says
of two machines.

usage: two_machines.py DIRECTORY-OF-THE-PACKAGE docs/systemd.md a|b SHARED-DIRECTORY MARK

Somebody outside gives each machine an interface `wire`; he finds it by a process with MARK among its arguments."""

import os
import shlex
import subprocess
import sys

from machine import DAEMONS, documented, expect, fetch, in_namespace, journal, ok, run, until

PACKAGE, GUIDE, ME, SHARED, MARK = sys.argv[1:]
OTHER = "b" if ME == "a" else "a"
WORKLOAD = {"a": "web", "b": "api"}


def tell(what):
    open(f"{SHARED}/{ME}.{what}", "w").close()


def hear(what):
    until(f"{OTHER}: {what}", lambda: os.path.exists(f"{SHARED}/{OTHER}.{what}"), 120)


def typed(line):
    """A line of the guide; what goes to the other machine by scp goes to the shared directory."""
    words = shlex.split(line)
    if words[0] == "scp":
        line = f"cp -r {' '.join(words[2:-1])} {SHARED}/"
    run("bash", "-c", line)
    ok(f"typed: {line}")


marker = subprocess.Popen(["bash", "-c", "read -r", MARK], stdin=subprocess.PIPE)
run("hostname", ME)
run("systemctl", "daemon-reload")
until("there is a wire", lambda: os.path.exists("/sys/class/net/wire") or "wire" in run("ip", "-br", "link"), 60)
run("ip", "address", "add", {"a": "192.0.2.1/24", "b": "192.0.2.2/24"}[ME], "dev", "wire")
run("ip", "link", "set", "wire", "up")
run("bash", "-c", f"cd {PACKAGE} && apt-get install ./ambient-mesh_*.deb")
if ME == "a":
    run("ztunnel", "make-ca", "/etc/ambient/ca")
    with open("/etc/ambient/mesh/mesh.yaml", "w") as file:
        file.write("workloads:\n")
        for node, name, address in [("a", "web", "10.77.0.2"), ("b", "api", "10.78.0.2")]:
            file.write(f"- {{uid: {name}, name: {name}, namespace: shop, serviceAccount: {name}, workloadIps: [{address}], "
                       f"node: {node}, protocol: HBONE, services: {{}}}}\n")
        file.write("policies:\n- {name: only-web, namespace: shop, scope: Namespace, action: Allow, dryRun: false,\n"
                   "   rules: [[[{principals: [cluster.local/ns/shop/sa/web]}]]]}\n")

mine = [line.removeprefix(f"{ME}# ") for line in documented(GUIDE, "## Two machines") if line.startswith(f"{ME}# ")]
expect("the guide has lines for this machine", len(mine) >= 2, mine)
for line in mine:
    typed(line)
if ME == "a":
    tell("copied")
else:
    hear("copied")
    run("bash", "-c", f"cp -r {SHARED}/ca {SHARED}/mesh /etc/ambient/")
    run("chmod", "700", "/etc/ambient/ca")
run("systemctl", "enable", "--now", *DAEMONS)

if ME == "b":
    run("systemd-run", "--unit", "api", "-p", "NetworkNamespacePath=/run/netns/api", "python3", "-m", "http.server", "8080")
    until("api listens", lambda: in_namespace("/run/netns/api", lambda: ":8080" in run("ss", "-ltn")))
    tell("serves")
    entry = until("this machine knows by certificate who called", lambda: journal(
        "DIRECTION=inbound", "SRC_IDENTITY=spiffe://cluster.local/ns/shop/sa/web",
        "DST_IDENTITY=spiffe://cluster.local/ns/shop/sa/api"), 60)[-1]
    expect("and from which address", entry["SRC_ADDR"].startswith("10.77.0.2:"), entry)
    # The machine itself proves no identity.
    def stranger():
        try:
            return fetch("10.78.0.2", timeout=5)
        except OSError as error:
            return error
    answer = stranger()
    expect("who proves no identity is not answered", not str(answer).startswith("HTTP"), answer)
    until("and the journal says why", lambda: journal("ERROR_CODE=POLICY_NOT_ALLOWED", "DST_WORKLOAD=api"))
    tell("done")
    hear("done")
else:
    hear("serves")
    answer = in_namespace("/run/netns/web", lambda: fetch("10.78.0.2"))
    expect("api on the other machine answers web", answer.startswith("HTTP/1.0 200"), answer)
    until("the log names both by their certificates", lambda: journal(
        "DIRECTION=outbound", "SRC_IDENTITY=spiffe://cluster.local/ns/shop/sa/web",
        "DST_IDENTITY=spiffe://cluster.local/ns/shop/sa/api"))
    tell("done")
    hear("done")
marker.kill()
ok("all of it")
