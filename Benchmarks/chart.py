"""The chart: plain SVG, small panels of bars, readable on light and on dark pages."""

from html import escape

import machine as machines
import report
from report import ORDER, TITLES, Row

PANELS = (
    ("Bulk, 1 stream", Row("", "bulk-1", "gbit_per_s", "Gbit/s", 1), True),
    ("Bulk, 4 streams", Row("", "bulk-4", "gbit_per_s", "Gbit/s", 1), True),
    ("Bulk, reverse", Row("", "bulk-reverse", "gbit_per_s", "Gbit/s", 1), True),
    ("CPU of bulk, 1 stream", Row("", "bulk-1", "cpu_s_per_gb", "s/GB", 2), False),
    ("Requests, 64 connections", Row("", "requests-64", "per_s", "1/s", 0), True),
    ("CPU of a request", Row("", "requests-64", "cpu_us", "µs", 1), False),
    ("Latency added, p50", Row("", "requests-1", "added_p50_us", "µs", 0), False),
    ("New connections", Row("", "connections", "per_s", "1/s", 0), True),
    ("CPU of a connection", Row("", "connections", "cpu_us", "µs", 0), False),
    ("Memory, idle", Row("", "memory", "idle_mib", "MiB", 1), False),
    ("Memory after load", Row("", "memory-after-load", "mib", "MiB", 1), False),
    ("Memory of an idle connection", Row("", "memory", "per_connection_kib_1000", "KiB", 1), False),
)
WIDTH, MARGIN, COLUMNS = 960, 24, 3
PANEL_WIDTH = (WIDTH - 2 * MARGIN - 2 * 28) / COLUMNS
BAR, GAP, LABEL, TOP = 14, 8, 58, 84
STYLE = """
  svg { font: 12px system-ui, sans-serif; }
  .page { fill: #ffffff; } .text { fill: #1f2328; } .soft { fill: #59636e; } .track { fill: #eff2f5; }
  .ours { fill: #d9480f; } .envoy { fill: #5b6ee1; } .haproxy { fill: #7a8794; } .direct { fill: #b6bec7; }
  .newer { fill: #f08c4a; } .relay { fill: #9db59a; }
  .title { font-size: 17px; font-weight: 600; } .head { font-weight: 600; } .value { font-variant-numeric: tabular-nums; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117; } .text { fill: #e6edf3; } .soft { fill: #9198a1; } .track { fill: #1b222b; }
    .ours { fill: #ff7a3d; } .envoy { fill: #8796ff; } .haproxy { fill: #8b98a5; } .direct { fill: #4a545f; }
    .newer { fill: #c2571f; } .relay { fill: #55705a; }
  }
"""


def draw(document):
    results = document["results"]
    panels = [(title, row, more_is_better, report.medians(results, row)) for title, row, more_is_better in PANELS]
    panels = [panel for panel in panels if panel[3]]
    shapes, y = [], TOP
    for start in range(0, len(panels), COLUMNS):
        row = panels[start:start + COLUMNS]
        for column, panel in enumerate(row):
            shapes += panel_shapes(MARGIN + column * (PANEL_WIDTH + 28), y, *panel)
        y += 30 + max(len(values) for *_, values in row) * (BAR + GAP) + 22
    height = y + 44
    options = document["options"]
    footer = [
        f"Medians of {options['rounds']} rounds of {options['seconds']} s. Two worker threads for each proxy; "
        "both sides together for CPU and memory.",
        machines.sentence(document["machine"]) + ".",
    ]
    shapes += [text(MARGIN, y + 10 + 18 * line, "soft", content) for line, content in enumerate(footer)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" height="{height:.0f}" '
        f'role="img" aria-label="Benchmark of this mesh against Envoy, HAProxy and direct connections">\n'
        f"<style>{STYLE}</style>\n"
        f'<rect class="page" width="{WIDTH}" height="{height:.0f}" rx="8"/>\n'
        + text(MARGIN, 36, "text title", "A connection through the mesh, and through the others") + "\n"
        + text(MARGIN, 57, "soft", "▲ more is better   ▼ less is better   ·   ×: ours compared with Envoy") + "\n"
        + "\n".join(shapes) + "\n</svg>\n")


def panel_shapes(x, y, title, row, more_is_better, values):
    compared = report.ratio(values, "envoy")
    heading = f"{title} {'▲' if more_is_better else '▼'}"
    shapes = [text(x, y, "text head", heading)]
    if compared is not None:
        shapes.append(text(x + PANEL_WIDTH, y, "text head value", f"{compared:.2f}×", anchor="end"))
    room = PANEL_WIDTH - LABEL - 92
    largest = max(max(values.values()), 1e-9)
    for line, key in enumerate(key for key in ORDER if key in values):
        top = y + 12 + line * (BAR + GAP)
        length = max(1.0, room * max(0.0, values[key]) / largest)
        shapes += [
            text(x, top + 11, "text head" if key in ("ours", "newer") else "soft", TITLES[key]),
            f'<rect class="track" x="{x + LABEL:.1f}" y="{top}" width="{room:.1f}" height="{BAR}" rx="3"/>',
            f'<rect class="{key}" x="{x + LABEL:.1f}" y="{top}" width="{length:.1f}" height="{BAR}" rx="3"/>',
            text(x + LABEL + room + 6, top + 11, "text value", f"{report.number(values[key], row.digits)} {row.unit}"),
        ]
    return shapes


def text(x, y, kind, content, anchor="start"):
    place = f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}"{place}>{escape(content)}</text>'
