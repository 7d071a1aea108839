"""The machine and the versions that a figure is worth nothing without."""

import ctypes
import os
import pathlib
import platform
import re

from processes import BenchmarkError, run


def describe(options, remarks):
    envoy = options.envoy
    return {
        "cpu": cpu(), "cores": len(os.sched_getaffinity(0)), "kernel": platform.release(),
        "openssl": version(["openssl", "version"], r"OpenSSL (\S+)"),
        "newer_openssl": library_version(options.libssl) if options.libssl else None,
        "envoy": version([envoy, "--version"], r"/(\d+\.\d+\.\d+)/") if envoy else None,
        "haproxy": version(["haproxy", "-v"], r"version (\d+\.\d+\.\d+)"),
        "envoy_tls": remarks.get("envoy_tls"), "congestion_control": congestion_control(options),
    }


def congestion_control(options):
    if options.congestion_control != "host":
        return options.congestion_control
    return pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()


def cpu():
    with open("/proc/cpuinfo") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def library_version(folder):
    """The version that a libcrypto says it has."""
    crypto = ctypes.CDLL(str(pathlib.Path(folder, "libcrypto.so.3")))
    crypto.OpenSSL_version.restype = ctypes.c_char_p
    return crypto.OpenSSL_version(0).decode().split()[1]


def version(command, pattern):
    try:
        found = re.search(pattern, run(command))
    except BenchmarkError:
        return None
    return found.group(1) if found else None


def sentence(machine):
    parts = [f"{machine['cpu']}, {machine['cores']} cores", f"Linux {machine['kernel']}", f"OpenSSL {machine['openssl']}"]
    parts += [f"{title} {machine[key]}" for key, title in (("envoy", "Envoy"), ("haproxy", "HAProxy")) if machine.get(key)]
    if machine.get("congestion_control"):
        parts.append(f"TCP {machine['congestion_control']}")
    return ", ".join(parts)
