"""Processes and network namespaces that are gone when the benchmark is, however it ends."""

import ctypes
import os
import re
import resource
import shutil
import signal
import subprocess
import tempfile
import time

LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class BenchmarkError(Exception):
    """What went wrong, in one sentence for the reader."""


class Ledger:
    """Everything that has to be taken down: processes by their id, namespaces by name, one directory."""

    def __init__(self, congestion_control="host"):
        self.congestion_control = congestion_control
        self.processes = []
        self.namespaces = []
        self.directory = tempfile.mkdtemp(prefix="ambient-bench.")
        self.tag = f"bench{os.getpid()}"
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.open_files = hard
        self.remove(leftovers())

    def namespace(self, name):
        run(["ip", "netns", "add", name])
        self.namespaces.append(name)
        run(["ip", "-n", name, "link", "set", "lo", "up"])

    def start(self, namespace, command, log, environment=None, nice=0, stdin=subprocess.DEVNULL, stdout=None):
        """Starts `command` inside a namespace. nsenter replaces itself, so the id is the command's own."""

        def prepare():
            # In order, so that nginx takes its workers with it.
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
            if nice:
                os.nice(nice)

        with open(log, "ab") as output:
            process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{namespace}", *map(str, command)],
                stdin=stdin, stdout=stdout or output, stderr=output, env={**os.environ, **(environment or {})},
                start_new_session=True, preexec_fn=prepare)
        process.log = log
        self.processes.append(process)
        return process

    def finish(self, process, timeout):
        """Waits for the end of a process that ends by itself, and returns what it wrote."""
        try:
            output, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            raise BenchmarkError(f"{name(process)} did not end within {timeout} s; see {process.log}") from None
        finally:
            self.stop([process])
        if process.returncode != 0:
            said = (output or b"")[-600:].decode(errors="replace") + tail(process.log)
            raise BenchmarkError(f"{name(process)} ended with status {process.returncode}: {said}")
        return (output or b"").decode()

    def stop(self, processes):
        for process in processes:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + 5
        for process in processes:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process in self.processes:
                self.processes.remove(process)

    def remove(self, namespaces):
        for namespace in namespaces:
            subprocess.run(["ip", "netns", "del", namespace], stderr=subprocess.DEVNULL, check=False)
            if namespace in self.namespaces:
                self.namespaces.remove(namespace)

    def close(self, keep_logs):
        self.stop(list(reversed(self.processes)))
        self.remove(list(self.namespaces))
        if not keep_logs:
            shutil.rmtree(self.directory, ignore_errors=True)


def leftovers():
    """Namespaces of benchmarks that were killed before they could clean up; their processes died with them."""
    names = [line.split()[0] for line in run(["ip", "netns", "list"]).splitlines() if line.strip()]
    owners = [(name, re.match(r"bench(\d+)-", name)) for name in names]
    return [name for name, owner in owners if owner and not os.path.exists(f"/proc/{owner.group(1)}")]


def run(command, timeout=60, **options):
    """Runs a command outside of any namespace and returns its output."""
    try:
        done = subprocess.run(
            [str(part) for part in command], timeout=timeout, capture_output=True, text=True, check=False, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"{command[0]}: {error}") from None
    if done.returncode != 0:
        raise BenchmarkError(f"{' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


def name(process):
    return " ".join(process.args[2:5])


def tail(path, lines=15):
    try:
        with open(path, errors="replace") as file:
            return "\n" + "".join(file.readlines()[-lines:])
    except OSError:
        return ""


def eventually(what, condition, seconds=15):
    """Waits until `condition` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.05)


def contains(path, text):
    try:
        with open(path, errors="replace") as file:
            return text in file.read()
    except OSError:
        return False


def cpu_seconds(processes):
    """User and system time of all threads of these processes, those that ended too."""
    ticks = 0
    for process in processes:
        with open(f"/proc/{process.pid}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / CLOCK_TICKS


def resident_bytes(processes):
    """Resident memory of these processes; pages they share count for each of them."""
    total = 0
    for process in processes:
        with open(f"/proc/{process.pid}/status") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    total += int(line.split()[1]) * 1024
    return total
