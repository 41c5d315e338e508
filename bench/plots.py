"""Draws what a run of the bench measured: `python -m bench.plots RESULT.json > plot.svg`. Horizontal bars, one group a measurement."""

from __future__ import annotations

import json
import sys
from html import escape
from pathlib import Path
from typing import Any

BAR, GAP, LEFT, WIDTH = 16, 14, 190, 520
COLOURS = {"direct": "#9a9a9a", "pgbouncer": "#4c78a8", "pgbouncer TLS": "#4c78a8"}
OURS = ("#e45756", "#f58518", "#b279a2", "#54a24b", "#72b7b2", "#eeca3b")


def draw(document: dict[str, Any]) -> str:
    """An SVG: rates a second by way, each group to its own scale; beside each bar the rate, and the proxy's CPU a transaction."""
    parts: list[str] = []
    y = 30
    for what, ways in document["medians"].items():
        most = max(got["rate"] for got in ways.values())
        parts.append(f'<text x="8" y="{y}" font-weight="bold">{escape(what)}</text>')
        y += 8
        ours = iter(OURS)
        for name, got in ways.items():
            colour = COLOURS.get(name) or next(ours, OURS[-1])
            width = max(1, round(WIDTH * got["rate"] / most))
            said = f"{got['rate']:,.0f}/s"
            said += f", {got['proxy_cpu']:.1f} µs of the proxy's CPU" if got["proxy_cpu"] else ""
            said += f", p50 {got['p50']:.0f} µs, p99 {got['p99']:.0f} µs" if got["p50"] else ""
            parts.append(f'<text x="{LEFT - 8}" y="{y + BAR - 4}" text-anchor="end">{escape(name)}</text>')
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{width}" height="{BAR - 3}" fill="{colour}"/>')
            parts.append(f'<text x="{LEFT + width + 6}" y="{y + BAR - 4}">{escape(said)}</text>')
            y += BAR
        y += GAP + 12
    machine = document["machine"]
    note = f"{document['began']}, {machine['cores']} cores, medians of {document['rounds']} interleaved rounds"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 330}" height="{y + 10}" font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, f'<text x="8" y="{y}">{escape(note)}</text>', "</svg>", ""])


def main() -> None:
    """Draw a result that was written before."""
    sys.stdout.write(draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
