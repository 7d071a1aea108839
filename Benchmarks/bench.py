"""Compares this mesh with direct connections, Envoy and HAProxy. Benchmarks/README.md says how to read it."""

import argparse
import json
import os
import pathlib
import signal
import sys
import time
import traceback

import chart
import machine
import measures
import profiling
import report
from certificates import Certificates
from processes import BenchmarkError, Ledger, resident_bytes, run
from systems import SYSTEMS, open_files_needed, require_known
from world import CONGESTION_CONTROL

QUICK_BUDGET = 150  # seconds; a measurement that is not begun by then is left out


class Setup:
    """What all systems share."""

    def __init__(self, ledger, options):
        self.ledger = ledger
        self.envoy = options.envoy
        self.ztunnel = options.ztunnel
        self.node_agent = options.node_agent
        self.ztunnel_environment = dict(pair.split("=", 1) for pair in options.env)
        self.libssl = options.libssl
        self.certificates = Certificates(options.ztunnel, ledger.directory)
        self.remarks = {}

    def relay(self):
        """The relay's binary, compiled when it is first asked for."""
        binary = pathlib.Path(self.ledger.directory, "relay.bin")
        if not binary.exists():
            source = pathlib.Path(__file__).with_name("relay.c")
            run(["clang", "-O2", "-Wall", "-pthread", "-o", binary, source])
        return binary


def parse(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--ztunnel", required=True, help="binary to measure")
    parser.add_argument("--node-agent", required=True, help="binary that captures the pods")
    parser.add_argument("--envoy", help="Envoy's binary")
    parser.add_argument("--libssl", metavar="FOLDER", help="measure ours with the OpenSSL libraries of this folder too")
    parser.add_argument("--quick", action="store_true", help="end within three minutes (also QUICK=1)")
    parser.add_argument("--full", action="store_true", help="hold 10,000 idle connections too")
    parser.add_argument("--rounds", type=int, help="how often everything is repeated (5; quick: 2)")
    parser.add_argument("--seconds", type=int, help="length of one measurement (4; quick: 1)")
    parser.add_argument("--only", type=commas, default=list(measures.GROUPS), metavar="GROUP,…",
                        help=f"of {', '.join(measures.GROUPS)}, or a single measure such as bulk-1")
    parser.add_argument("--systems", type=commas, default=list(SYSTEMS), metavar="SYSTEM,…",
                        help=f"of {', '.join(SYSTEMS)}")
    parser.add_argument("--congestion-control", default=CONGESTION_CONTROL, metavar="NAME",
                        help=f"TCP's in all pods ({CONGESTION_CONTROL}); 'host': what this machine has by default")
    parser.add_argument("--json", default=".build/bench/results.json", help="where the results go")
    parser.add_argument("--chart", metavar="FILE.svg", help="draw a chart")
    parser.add_argument("--perf", action="store_true", help="profile our two proxies under load, into .build/bench/")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for our ztunnel; repeatable")
    parser.add_argument("--keep-logs", action="store_true", help="keep the daemons' logs and say where they are")
    parser.add_argument("--redraw", metavar="RESULTS.json", help="print and draw earlier results, measure nothing")
    options = parser.parse_args(arguments)
    options.quick = options.quick or os.environ.get("QUICK", "") not in ("", "0")
    if not options.libssl and "newer" in options.systems:
        options.systems.remove("newer")
    options.rounds = options.rounds or (2 if options.quick else 5)
    options.seconds = options.seconds or (1 if options.quick else 4)
    return options


def commas(text):
    return [part for part in text.split(",") if part]


def note(text):
    print(text, file=sys.stderr, flush=True)


class Run:
    def __init__(self, ledger, options):
        self.options = options
        self.begun = time.monotonic()
        self.setup = Setup(ledger, options)
        self.results = {}
        self.notes = []
        self.failures = 0
        self.selected = {
            name: function for group, functions in measures.MEASURES.items() for name, function in functions.items()
            if group in options.only or name in options.only}
        known = set(measures.GROUPS) | {name for functions in measures.MEASURES.values() for name in functions}
        for name in options.only:
            if name not in known:
                raise BenchmarkError(f"no measure '{name}': there are {', '.join(sorted(known))}")

    def elapsed(self):
        return time.monotonic() - self.begun

    def is_late(self):
        return self.options.quick and self.elapsed() > QUICK_BUDGET

    def add(self, measure, system, number, figures):
        self.results.setdefault(measure, {}).setdefault(system.key, []).append({**figures, "round": number})

    def all(self):
        if "memory" in self.options.only:
            self.memory()
        if not self.selected:
            return
        running = []
        try:
            for key in self.options.systems:
                note(f"starting {SYSTEMS[key].title}")
                running.append(SYSTEMS[key](self.setup))
            self.rounds(running)
            self.after_load(running)
            if self.options.perf:
                for system in running:
                    if system.key == "ours":
                        profiling.profile(system, self.selected, self.options, note)
        finally:
            for system in running:
                system.close()

    def rounds(self, running):
        for number in range(1, self.options.rounds + 1):
            for name, function in self.selected.items():
                if self.is_late():
                    self.note(f"left out for lack of time: round {number} from {name} on")
                    return
                if name == "fairness" and number > 1 and self.options.quick:
                    continue
                wanted = measures.SYSTEMS_OF.get(name, tuple(SYSTEMS))
                # Each round begins with another system, so that none always runs after the same one.
                turn = [system for system in running if system.key in wanted]
                turn = turn[number % len(turn):] + turn[:number % len(turn)] if turn else []
                for system in turn:
                    self.measure(name, system, number, lambda: function(system, self.options))
                note(f"[{self.elapsed():4.0f} s] round {number} of {self.options.rounds}: {name}  "
                     + report.one_line(name, self.results[name] if name in self.results else {}))

    def measure(self, name, system, number, function):
        """One measurement that fails is noted and left out; a proxy that has died ends everything."""
        try:
            figures = function()
        except BenchmarkError as error:
            system.world.abandon()
            system.require_alive()
            self.failures += 1
            self.note(f"{name}, {system.title}, round {number} failed: {error}")
            return
        system.require_alive()
        self.add(name, system, number, figures)
        if figures.get("errors"):
            self.note(f"{name}, {system.title}, round {number}: {figures['errors']} errors")

    def memory(self):
        """In worlds of their own: processes that have done nothing yet."""
        counts = [1000] + [10000] * self.options.full
        for key in self.options.systems:
            # The relay keeps nothing of an idle connection but its sockets.
            if key in ("direct", "relay"):
                continue
            possible = [n for n in counts if open_files_needed(SYSTEMS[key], n) <= self.setup.ledger.open_files]
            for count in set(counts) - set(possible):
                self.note(f"{SYSTEMS[key].title}: {count} idle connections left out: the limit of open files is "
                          f"{self.setup.ledger.open_files}, {open_files_needed(SYSTEMS[key], count)} are needed")
            system = SYSTEMS[key](self.setup, f"{key}-memory")
            try:
                self.measure("memory", system, 1, lambda: measures.memory(system, possible))
            finally:
                system.close()
        note(f"[{self.elapsed():4.0f} s] memory  {report.one_line('memory', self.results.get('memory', {}))}")

    def after_load(self, running):
        if not set(self.selected) - {"passthrough"}:
            return
        time.sleep(1)
        for system in running:
            if system.proxies and system.key != "relay":
                self.add("memory-after-load", system, 1, {
                    "mib": resident_bytes(system.proxies) / measures.MEBIBYTE})

    def note(self, text):
        self.notes.append(text)
        note(f"note: {text}")

    def document(self):
        return {
            "machine": machine.describe(self.options, self.setup.remarks),
            "options": {"rounds": self.options.rounds, "seconds": self.options.seconds, "quick": self.options.quick},
            "seconds": round(self.elapsed()), "notes": self.notes,
            "summary": report.summary(self.results), "results": self.results,
        }


def interrupt(*_):
    raise KeyboardInterrupt


def output(document, options):
    print(report.table(document))
    if options.chart:
        pathlib.Path(options.chart).write_text(chart.draw(document))
        note(f"chart: {options.chart}")


def main(arguments):
    options = parse(arguments)
    if options.redraw:
        output(json.loads(pathlib.Path(options.redraw).read_text()), options)
        return 0
    require_known(options.systems)
    if "envoy" in options.systems and not options.envoy:
        raise BenchmarkError("Envoy is to be measured: give --envoy the path that scripts/envoy-venv prints")
    if os.geteuid() != 0:
        raise BenchmarkError("the benchmark makes network namespaces: run it as root")
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, interrupt)
    ledger = Ledger(options.congestion_control)
    succeeded = False
    try:
        run = Run(ledger, options)
        run.all()
        document = run.document()
        path = pathlib.Path(options.json)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, indent=1) + "\n")
        output(document, options)
        note(f"results: {path}")
        succeeded = run.failures == 0
        return 0 if succeeded else 1
    except KeyboardInterrupt:
        note("interrupted: taking everything down")
        succeeded = True
        return 130
    finally:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        keep = options.keep_logs or not succeeded
        ledger.close(keep)
        if keep:
            note(f"logs: {ledger.directory}")


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BenchmarkError as error:
        sys.exit(f"the benchmark failed: {error}")
    except Exception:
        traceback.print_exc()
        sys.exit(1)
