"""The machine and the versions that a figure is worth nothing without."""

import os
import platform
import re

from processes import BenchmarkError, run


def describe(envoy, remarks):
    return {
        "cpu": cpu(), "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(),
        "openssl": version(["openssl", "version"], r"OpenSSL (\S+)"),
        "envoy": version([envoy, "--version"], r"/(\d+\.\d+\.\d+)/") if envoy else None,
        "haproxy": version(["haproxy", "-v"], r"version (\d+\.\d+\.\d+)"),
        "envoy_tls": remarks.get("envoy_tls"),
    }


def cpu():
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def version(command, pattern):
    try:
        found = re.search(pattern, run(command))
    except BenchmarkError:
        return None
    return found.group(1) if found else None


def sentence(machine):
    parts = [f"{machine['cpu']}, {machine['cores']} cores", f"Linux {machine['kernel']}", f"OpenSSL {machine['openssl']}"]
    parts += [f"{title} {machine[key]}" for key, title in (("envoy", "Envoy"), ("haproxy", "HAProxy")) if machine.get(key)]
    return ", ".join(parts)
