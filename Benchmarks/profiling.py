"""Profiles of our two proxies under load, as text."""

import os
import pathlib

from processes import BenchmarkError, run

PROFILED = ("bulk-1", "bulk-4", "bulk-reverse", "requests-64", "connections", "passthrough")
# Hand-written assembly of libcrypto has no symbols in the distribution's packages: the first says how much it is in all.
REPORTS = {
    "modules": ["--no-children", "--call-graph", "none", "--sort", "dso"],
    "flat": ["--no-children", "--call-graph", "none", "--sort", "dso,symbol"],
    "calls": ["--children", "--sort", "symbol"],
}
DIRECTORY = pathlib.Path(".build/bench")


def profile(system, selected, options, note):
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    for name, measure in selected.items():
        if name not in PROFILED:
            continue
        recorders = []
        for side, proxy in zip(("client", "server"), system.proxies):
            data = system.world.path(f"{name}-{side}.perf")
            recorders.append((side, data, system.world.start(
                "node-a", ["perf", "record", "--freq", "997", "--call-graph", "fp", "--pid", proxy.pid, "--output", data,
                           "--", "sleep", options.seconds + 1], "perf.log")))
        measure(system, options)
        for side, data, recorder in recorders:
            recorder.wait(options.seconds + 60)
            for kind, flags in REPORTS.items():
                target = DIRECTORY / f"perf-{name}-{side}-{kind}.txt"
                try:
                    target.write_text(run(["perf", "report", "--stdio", "--input", data, "--percent-limit", "0.5", *flags],
                                          timeout=300))
                    note(f"profile: {os.fspath(target)}")
                except BenchmarkError as error:
                    note(f"no profile of {name}, {side}: {error}")
