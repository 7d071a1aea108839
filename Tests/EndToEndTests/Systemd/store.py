#!/usr/bin/env python3
"""Runs as root in a machine whose PID 1 is systemd: ztunnel as a service with a descriptor store, and an agent that knows
nothing of handing over. A client in the pod connects while no ztunnel lives, and must be served by the next one.

usage: store.py ZTUNNEL-BINARY"""

import array
import ctypes
import os
import socket
import subprocess
import sys
import threading
import time

ZTUNNEL = sys.argv[1]
DIRECTORY = "/run/store-test"
AGENT_SOCKET = DIRECTORY + "/agent.sock"
NAMESPACE = "store-pod"
ADDRESS = "10.9.9.9"

UNIT = f"""
[Service]
Type=notify
ExecStartPre=/bin/sleep 1.5
ExecStart={ZTUNNEL}
Environment=LOCAL_XDS_PATH={DIRECTORY}/mesh.yaml LOCAL_CA_PATH={DIRECTORY}/ca INPOD_UDS={AGENT_SOCKET}
Environment=UNSTABLE_ENABLE_SOCKS5=true CONNECTION_TERMINATION_DEADLINE=1s ZTUNNEL_WORKER_THREADS=2
Environment=AMBIENT_FAULTS=stall-worker FDSTORE=64 ISTIO_META_DNS_CAPTURE=false
FileDescriptorStoreMax=64
NotifyAccess=main
WatchdogSec=4
Restart=always
RestartSec=0
TimeoutStopSec=20
"""

MESH = f"""
workloads:
- uid: Kubernetes//Pod/demo/store
  name: store
  namespace: demo
  serviceAccount: store
  workloadIps: ["{ADDRESS}"]
  protocol: TCP
  services: {{}}
services: []
policies: []
"""


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def show(name):
    return run("systemctl", "show", "--value", "-p", name, "store-ztunnel.service")


def until(what, condition, limit=30):
    end = time.monotonic() + limit
    while time.monotonic() < end:
        if condition():
            print("ok", what, flush=True)
            return
        time.sleep(0.05)
    print("not ok", what, flush=True)
    print(subprocess.run(["journalctl", "--no-pager", "-n", "60", "-u", "store-ztunnel.service"],
                         capture_output=True, text=True).stdout, flush=True)
    sys.exit(1)


class Agent:
    """The node agent of zds.md, without extensions."""

    def __init__(self):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(AGENT_SOCKET)
        self.listener.listen()
        self.snapshots = 0
        self.strange = []
        self.connection = None
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection, _ = self.listener.accept()
            try:
                connection.recv(1024)
                with open(f"/run/netns/{NAMESPACE}") as namespace:
                    self.ask(connection, self.add(), [namespace.fileno()])
                self.ask(connection, bytes.fromhex("1a00"))
                self.connection = connection
                self.snapshots += 1
            except OSError as error:
                self.strange.append(str(error))

    @staticmethod
    def add():
        def field(number, value):
            return bytes([number << 3 | 2, len(value)]) + value
        info = field(1, b"store") + field(2, b"demo") + field(3, b"store")
        return field(1, field(1, b"uid-pod") + field(2, info))

    def ask(self, connection, request, descriptors=()):
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else []
        connection.sendmsg([request], control)
        answer, came, _, _ = connection.recvmsg(1024, 1024)
        if answer != bytes.fromhex("0a00") or came:
            self.strange.append(f"{answer.hex()} with {len(came)} control messages")

    def delete(self):
        self.ask(self.connection, bytes.fromhex("1209" "1207") + b"uid-pod")


def in_pod(body):
    """Runs body in a thread inside the pod's namespace."""
    result = []

    def enter():
        with open(f"/run/netns/{NAMESPACE}") as namespace:
            LIBC.setns(namespace.fileno(), 0x40000000)
        result.append(body())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return result[0]


def echo():
    listener = socket.create_server((ADDRESS, 8080))

    def serve():
        while True:
            threading.Thread(target=answer, args=[listener.accept()[0]], daemon=True).start()

    def answer(connection):
        try:
            connection.sendall(connection.recv(100))
            connection.close()
        except OSError:
            pass  # The proxy cut it.
    threading.Thread(target=serve, daemon=True).start()


def connect():
    client = socket.create_connection(("127.0.0.1", 15080), timeout=30)
    client.sendall(b"\x05\x01\x00")
    return client


def finish(client):
    """Goes on where connect() ended: answers of SOCKS5, then a word there and back."""
    if client.recv(2) != b"\x05\x00":
        return False
    client.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(ADDRESS) + (8080).to_bytes(2, "big"))
    if client.recv(10)[:2] != b"\x05\x00":
        return False
    client.sendall(b"word")
    return client.recv(100) == b"word"


def lives():
    """Whether the service's main process is a ztunnel; between two it is none, or the pause before the next."""
    try:
        return os.readlink(f"/proc/{show('MainPID')}/exe") == os.path.realpath(ZTUNNEL)
    except OSError:
        return False


def interrupted(what, interrupt):
    """A client connects while the service is between two processes."""
    snapshots = agent.snapshots
    process = interrupt(show("MainPID"))
    until(f"{what}: no ztunnel lives", lambda: not lives(), 40)
    clients = [in_pod(connect) for _ in range(5)]
    until(f"{what}: the next one is there", lambda: agent.snapshots > snapshots, 60)
    until(f"{what}: who connected meanwhile is served", lambda: all(finish(client) for client in clients))
    if process:
        process.wait(30)


LIBC = ctypes.CDLL("libc.so.6", use_errno=True)

os.makedirs(DIRECTORY)
open(DIRECTORY + "/mesh.yaml", "w").write(MESH)
run(ZTUNNEL, "make-ca", DIRECTORY + "/ca")
run("ip", "netns", "add", NAMESPACE)
run("ip", "-n", NAMESPACE, "link", "set", "lo", "up")
run("ip", "-n", NAMESPACE, "address", "add", ADDRESS + "/32", "dev", "lo")
in_pod(echo)
agent = Agent()
open("/etc/systemd/system/store-ztunnel.service", "w").write(UNIT)
run("systemctl", "daemon-reload")
subprocess.Popen(["systemctl", "start", "store-ztunnel.service"])

until("the first ztunnel is there", lambda: agent.snapshots == 1)
until("it serves", lambda: finish(in_pod(connect)))
until("its sockets are stored", lambda: show("NFileDescriptorStore") == "5")

interrupted("restart", lambda _: subprocess.Popen(["systemctl", "restart", "store-ztunnel.service"]))
until("restart: still as many sockets", lambda: show("NFileDescriptorStore") == "5")
interrupted("crash", lambda main: os.kill(int(main), 9))
until("crash: still as many sockets", lambda: show("NFileDescriptorStore") == "5")
until("the service is up", lambda: show("ActiveState") == "active")
interrupted("stall", lambda main: os.kill(int(main), 12))
until("the service is up again", lambda: show("ActiveState") == "active")

# The deadline that the shipped unit gives. Nobody has to wait for it: an open connection goes to the next process by the store.
os.makedirs("/run/systemd/system/store-ztunnel.service.d")
open("/run/systemd/system/store-ztunnel.service.d/deadline.conf", "w").write(
    "[Service]\nEnvironment=CONNECTION_TERMINATION_DEADLINE=25s\nTimeoutStopSec=35\n")
run("systemctl", "daemon-reload")
interrupted("new deadline", lambda main: os.kill(int(main), 9))
until("the service is up with the new deadline", lambda: show("ActiveState") == "active")
live = in_pod(connect)
live.recv(2)
live.sendall(b"\x05\x01\x00\x01" + socket.inet_aton(ADDRESS) + (8080).to_bytes(2, "big"))
live.recv(10)
snapshots, main = agent.snapshots, show("MainPID")
begin, served, failed, longest = time.monotonic(), 0, 0, 0.0
restart = subprocess.Popen(["systemctl", "restart", "store-ztunnel.service"])
while agent.snapshots == snapshots and time.monotonic() - begin < 60:
    start = time.monotonic()
    try:
        good = finish(in_pod(connect))
    except OSError:
        good = False
    served, failed = served + good, failed + (not good)
    longest = max(longest, time.monotonic() - start)
    time.sleep(0.02)
took = time.monotonic() - begin
print(f"restart with an open connection: {served} new connections served, {failed} failed, the longest took "
      f"{longest:.1f} s, {took:.1f} s in all", flush=True)
until("no new connection failed while one was open", lambda: failed == 0 and served > 0, 0.1)
until("the restart did not wait for it", lambda: took < 20, 0.1)
restart.wait(60)
live.sendall(b"still here")
until("it was moved to the next process", lambda: live.recv(100) == b"still here" and show("MainPID") != main, 0.1)
until("the service is up after the restart", lambda: show("ActiveState") == "active")
until("still as many sockets", lambda: show("NFileDescriptorStore") == "5")

agent.delete()
until("the pod is gone, and nothing is stored", lambda: show("NFileDescriptorStore") == "0")
until("the agent saw nothing it does not know", lambda: agent.strange == [])
run("systemctl", "stop", "store-ztunnel.service")
