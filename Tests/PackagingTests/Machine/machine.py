"""What scripts that run as root in a machine of systemd share: commands, waiting, services, namespaces."""

import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time

LIBC = ctypes.CDLL("libc.so.6", use_errno=True)
DAEMONS = ("ambient-node-agent", "ambient-ztunnel")


def run(*command, check=True):
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode != 0:
        fail(f"{' '.join(command)}: status {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def fail(what):
    print("not ok", what, flush=True)
    for unit in DAEMONS:
        print(f"---- {unit}", flush=True)
        told = subprocess.run(["journalctl", "--no-pager", "-o", "short-precise", "-u", unit], capture_output=True, text=True)
        for part in [lambda line: " access: " in line, lambda line: not (" access: " in line or " configuration " in line)]:
            print("\n".join(list(filter(part, told.stdout.splitlines()))[-30:]), flush=True)
    sys.exit(1)


def ok(what):
    print("ok", what, flush=True)


def expect(what, condition, detail=""):
    if not condition:
        fail(f"{what}: {detail}")
    ok(what)


def until(what, condition, limit=30):
    """Waits until condition() is true, and returns what it gave."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        value = condition()
        if value:
            ok(what)
            return value
        time.sleep(0.1)
    fail(f"{what}: not within {limit} s")


def show(unit, name):
    return run("systemctl", "show", "--value", "-p", name, unit)


def journal(*matches):
    """Entries of the journal as dictionaries, the oldest first."""
    run("journalctl", "--sync")
    done = subprocess.run(["journalctl", "--no-pager", "-o", "json", *matches], capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def in_namespace(path, body):
    """Runs body in a thread inside of a network namespace, and returns its result."""
    result = []

    def enter():
        with open(path) as namespace:
            if LIBC.setns(namespace.fileno(), 0x40000000) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        result.append(body())

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    return result[0] if result else None


def fetch(address, port=8080, timeout=20):
    """One HTTP request on a connection of its own: the first line of the answer."""
    with socket.create_connection((address, port), timeout=timeout) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
    return answer.split(b"\r\n")[0].decode()


def drop_in(unit, text):
    directory = f"/run/systemd/system/{unit}.service.d"
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/test.conf", "w") as file:
        file.write(text)
    run("systemctl", "daemon-reload")


def documented(path, heading=None):
    """The commands of the first console block below a heading, without their prompts."""
    with open(path) as file:
        text = file.read()
    if heading:
        text = text.split(f"\n{heading}\n", 1)[1]
    block = text.split("```console\n", 1)[1].split("```", 1)[0]
    return [line for line in block.splitlines() if line]
