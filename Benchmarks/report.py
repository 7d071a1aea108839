"""Medians, ratios and the table."""

from statistics import median

import machine as machines

ORDER = ("direct", "envoy", "haproxy", "relay", "ours", "newer")
TITLES = {
    "direct": "direct", "envoy": "Envoy", "haproxy": "HAProxy", "relay": "relay", "ours": "ours", "newer": "ours+"}


class Row:
    """One figure. `target`: (what ours is compared with, "≥" or "≤", bound)."""

    def __init__(self, title, measure, figure, unit, digits, target=None):
        self.title, self.measure, self.figure, self.unit, self.digits = title, measure, figure, unit, digits
        self.target = target


SECTIONS = (
    ("Bulk", (
        Row("1 stream", "bulk-1", "gbit_per_s", "Gbit/s", 2, ("envoy", "≥", 1.5)),
        Row("4 streams", "bulk-4", "gbit_per_s", "Gbit/s", 2, ("envoy", "≥", 1.6)),
        Row("16 streams", "bulk-16", "gbit_per_s", "Gbit/s", 2),
        Row("1 stream, reverse", "bulk-reverse", "gbit_per_s", "Gbit/s", 2, ("envoy", "≥", 1.4)),
        Row("CPU, 1 stream", "bulk-1", "cpu_s_per_gb", "s/GB", 2, ("envoy", "≤", 0.7)),
        Row("CPU, 4 streams", "bulk-4", "cpu_s_per_gb", "s/GB", 2),
        Row("CPU, 16 streams", "bulk-16", "cpu_s_per_gb", "s/GB", 2),
        Row("CPU, reverse", "bulk-reverse", "cpu_s_per_gb", "s/GB", 2),
    )),
    ("Plaintext passthrough (15006)", (
        Row("1 stream", "passthrough", "gbit_per_s", "Gbit/s", 2, ("direct", "≥", 0.7)),
        Row("CPU", "passthrough", "cpu_s_per_gb", "s/GB", 2),
    )),
    ("Requests on kept connections", tuple(
        row for connections in (1, 64, 512) for row in (
            Row(f"{connections}: rate", f"requests-{connections}", "per_s", "1/s", 0,
                ("envoy", "≥", 2.0) if connections == 64 else None),
            Row(f"{connections}: CPU", f"requests-{connections}", "cpu_us", "µs/request", 1,
                ("envoy", "≤", 0.5) if connections == 64 else None),
            Row(f"{connections}: p50", f"requests-{connections}", "p50_us", "µs", 0),
            Row(f"{connections}: p99", f"requests-{connections}", "p99_us", "µs", 0),
            Row(f"{connections}: p99.9", f"requests-{connections}", "p99.9_us", "µs", 0),
            *((Row("1: p50 above direct", "requests-1", "added_p50_us", "µs", 0, ("envoy", "≤", 0.5)),)
              if connections == 1 else ())))),
    ("New connections", (
        Row("rate", "connections", "per_s", "1/s", 0, ("envoy", "≥", 2.0)),
        Row("CPU", "connections", "cpu_us", "µs/connection", 1, ("envoy", "≤", 0.4)),
        Row("p99", "connections", "p99_us", "µs", 0),
    )),
    ("Resident memory, both proxies", (
        Row("idle", "memory", "idle_mib", "MiB", 1, ("envoy", "≤", 0.25)),
        Row("after load", "memory-after-load", "mib", "MiB", 1, ("envoy", "≤", 0.25)),
        Row("each of 1,000 idle connections", "memory", "per_connection_kib_1000", "KiB", 1, ("value", "≤", 12.0)),
        Row("each of 10,000 idle connections", "memory", "per_connection_kib_10000", "KiB", 1, ("value", "≤", 12.0)),
        Row("node-agents, idle", "memory", "agents_idle_mib", "MiB", 1),
    )),
    ("A quiet pod beside a busy one: p99", (
        Row("alone", "fairness", "alone_p99_us", "µs", 0),
        Row("neighbour moves bytes", "fairness", "bytes_p99_us", "µs", 0),
        Row("neighbour opens connections", "fairness", "connections_p99_us", "µs", 0),
        Row("bytes / alone", "fairness", "bytes_ratio", "x", 1, ("value", "≤", 3.0)),
        Row("connections / alone", "fairness", "connections_ratio", "x", 1, ("value", "≤", 3.0)),
    )),
)


def medians(results, row):
    """The median over all rounds for each system that has the figure."""
    if row.figure == "added_p50_us":
        return added_latency(results)
    found = {}
    for system, rounds in results.get(row.measure, {}).items():
        values = [figures[row.figure] for figures in rounds if row.figure in figures]
        if values and not (system == "direct" and row.figure.startswith("cpu_")):
            found[system] = median(values)
    return found


def added_latency(results):
    p50 = medians(results, Row("", "requests-1", "p50_us", "µs", 0))
    if "direct" not in p50:
        return {}
    return {system: value - p50["direct"] for system, value in p50.items() if system != "direct"}


def ratio(values, other, whose="ours"):
    if whose not in values or not values.get(other):
        return None
    return values[whose] / values[other]


def judged(values, target):
    """The figure that the target is about, and whether it is met; None where it was not measured."""
    kind, sign, bound = target
    figure = values.get("ours") if kind == "value" else ratio(values, kind)
    if figure is None:
        return None
    return figure, (figure >= bound if sign == "≥" else figure <= bound)


def ratio_range(results, row, other):
    """The smallest and the largest ratio of two measurements of the same round; None with fewer than two rounds."""
    rounds = results.get(row.measure, {})
    theirs = {figures["round"]: figures.get(row.figure) for figures in rounds.get(other, [])}
    ratios = [figures[row.figure] / theirs[figures["round"]] for figures in rounds.get("ours", [])
              if row.figure in figures and theirs.get(figures["round"])]
    return (min(ratios), max(ratios)) if len(ratios) > 1 else None


def summary(results):
    """Median, least and most of each figure."""
    return {
        measure: {
            system: {
                figure: {"median": median(values), "least": min(values), "most": max(values)}
                for figure in rounds[0] if figure != "round"
                for values in [[figures[figure] for figures in rounds if figure in figures]]}
            for system, rounds in systems.items()}
        for measure, systems in results.items()}


def one_line(measure, rounds):
    """The last round's first figure of each system."""
    return "  ".join(
        f"{TITLES[system]} {next(iter(figures[-1].values())):.6g}" for system, figures in sorted(rounds.items()))


def number(value, digits):
    return "" if value is None else f"{value:,.{digits}f}"


def times(value):
    return "" if value is None else f"{value:.2f}x"


def interval(spread):
    return "" if spread is None else f"{spread[0]:.2f}–{spread[1]:.2f}"


def table(document):
    results = document["results"]
    systems = [key for key in ORDER if any(key in rounds for rounds in results.values())]
    # What is shown besides ours, compared with Envoy.
    others = [key for key in ("newer", "relay") if key in systems]
    heads = ["", "", *(TITLES[key] for key in systems), "/Envoy", "in rounds",
             *(f"{TITLES[key]}/Envoy" for key in others), "/direct", "target", ""]
    lines, met, judgements = [], 0, 0
    for title, rows in SECTIONS:
        body = []
        for row in rows:
            values = medians(results, row)
            if not values:
                continue
            target, mark = "", ""
            if row.target:
                kind, sign, bound = row.target
                compared = {"envoy": "x Envoy", "direct": "x direct", "value": f" {row.unit}"}
                target = f"{sign} {bound:g}{compared[kind]}"
                verdict = judged(values, row.target)
                if verdict:
                    mark = "✔" if verdict[1] else "✘"
                    met, judgements = met + verdict[1], judgements + 1
            ratios = [""] * (3 + len(others)) if row.unit == "x" else [
                times(ratio(values, "envoy")), interval(ratio_range(results, row, "envoy")),
                *(times(ratio(values, "envoy", key)) for key in others), times(ratio(values, "direct"))]
            figures = [number(values.get(key), row.digits) for key in systems]
            body.append([f"  {row.title}", row.unit, *figures, *ratios, target, mark])
        if body:
            lines += [[title], *body]
    widths = [max(len(line[column]) for line in [heads, *lines] if len(line) > column and len(line) > 1)
              for column in range(len(heads))]
    text = [layout(heads, widths)]
    text += [line[0] if len(line) == 1 else layout(line, widths) for line in lines]
    envoy_tls = document["machine"].get("envoy_tls")
    footer = [
        "", f"Medians of {document['options']['rounds']} rounds, measurements of {document['options']['seconds']} s. "
        "CPU and memory are those of both sides' proxies together.",
        "/Envoy, /direct: ours compared with theirs, by medians; in rounds: the least and most of single rounds.",
        *([f"{met} of {judgements} targets met."] if judgements else []),
        *(["ours+: the same binaries with OpenSSL " + document["machine"]["newer_openssl"] + "."] if "newer" in systems else []),
        *(["relay: a pair behind the same rules that copies bytes and does nothing else; its ratio to Envoy bounds all others."]
          if "relay" in systems else []),
        machines.sentence(document["machine"]) + ".",
        "Envoy stands behind the same redirect rules as ours; HAProxy's clients connect to a listener beside them. Neither",
        "keeps the client's address, which is in their favour. Access logs of all go to a file. TLS 1.3: ours and HAProxy",
        f"use AES-256-GCM{f', Envoy {envoy_tls}, its own choice' if envoy_tls else ''}.",
    ]
    footer += [f"Note: {note}." for note in document["notes"]]
    return "\n".join(text + footer)


def layout(cells, widths):
    left = (0, 1, len(widths) - 2, len(widths) - 1)
    return "  ".join(
        cell.ljust(width) if column in left else cell.rjust(width)
        for column, (cell, width) in enumerate(zip(cells, widths))).rstrip()
