"""The report as a page: one file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._report_text import grouped, number, proof, share, summary, totals

if TYPE_CHECKING:
    from ._report import PrunedLayer, PruningReport

_UNITS = 1000  # the width of a bar in its own coordinates

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5f6670; --page: #f6f7f8; --card: #fff; --line: #dfe2e6;
  --left: #2f6fb0; --held: #d98a1f; --gone: #cdd3da; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa2ad; --page: #141619; --card: #1d2024;
  --line: #32373d; --left: #6ea8e0; --held: #e0a04a; --gone: #454c55; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 1100px; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; }
h1 { margin: 0 0 .25rem; font-size: 1.5rem; overflow-wrap: anywhere; }
h2 { margin: 1.6rem 0 .5rem; font-size: 1.1rem; }
p { margin: .25rem 0 .6rem; color: var(--soft); }
.card { padding: .4rem .9rem; border: 1px solid var(--line); border-radius: 10px; background: var(--card);
  overflow-x: auto; }
table { width: 100%; border-collapse: collapse; }
th { font-weight: 600; color: var(--soft); }
th, td { padding: .25rem .6rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.bar { width: 45%; min-width: 180px; padding-top: .45rem; }
svg { display: block; width: 100%; height: 11px; }
.l { fill: var(--left); background: var(--left); } .h { fill: var(--held); background: var(--held); }
.g { fill: var(--gone); background: var(--gone); }
.key i { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 .9em; border-radius: 2px; }
.key i:first-child { margin-left: 0; }
code { font: .9em ui-monospace, monospace; overflow-wrap: anywhere; }
details { font-size: .9em; } summary { cursor: pointer; color: var(--soft); }
ul { margin: .2rem 0; padding-left: 1.2rem; }
"""

_KEY = (
    '<p class="key"><i class="l"></i>stays, live<i class="h"></i>masked, but stays<i class="g"></i>removed; '
    "the widest layer has the longest bar</p>"
)


def render_html(report: PruningReport, title: str) -> str:
    """Return the page."""
    shown = html.escape(title)
    checked = proof(report)
    parts = [
        f"<h1>{shown}</h1>\n<p>{html.escape(summary(report))}</p>",
        *([f"<p>{html.escape(checked)}</p>"] if checked else []),
        _totals(report),
        f"<h2>Layers</h2>\n{_KEY}\n{_layers(report.layers)}" if report.layers else "",
        _list("Why masked channels stay", [f"{one.count:,}: {one}" for one in grouped(report.reasons())]),
        _list("Notes", [str(one) for one in grouped(dict.fromkeys(report.notes, 1))]),
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{shown}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _totals(report: PruningReport) -> str:
    rows = [
        f'<tr><td>{name}</td><td class="n">{number(before)}</td><td class="n">{number(after)}</td>'
        f'<td class="n">{share(before, after)}</td><td class="bar">{_bar(_spans(before, after, 0), "")}</td></tr>'
        for name, before, after in totals(report)
    ]
    head = '<tr><th></th><th class="n">before</th><th class="n">after</th><th class="n">left</th><th></th></tr>'
    return f'<div class="card"><table>{head}{"".join(rows)}</table></div>'


def _layers(layers: dict[str, PrunedLayer]) -> str:
    widest = max(layer.channels for layer in layers.values()) or 1
    head = '<tr><th>BatchNorm</th><th class="n">channels</th><th></th><th>masked, but stay</th></tr>'
    rows = "\n".join(_layer(name, layer, widest) for name, layer in layers.items())
    return f'<div class="card"><table>{head}\n{rows}</table></div>'


def _layer(name: str, layer: PrunedLayer, widest: int) -> str:
    held = layer.masked - layer.removed
    label = f"{layer.left - held} live, {held} masked that stay, {layer.removed} removed"
    bar = _bar(_spans(widest, layer.left - held, held, layer.removed), label)
    return (
        f"<tr><td><code>{html.escape(name)}</code></td>"
        f'<td class="n">{layer.channels} → {layer.left}</td><td class="bar">{bar}</td><td>{_held(layer)}</td></tr>'
    )


def _spans(whole: float, left: float, held: float, gone: float | None = None) -> list[tuple[str, float]]:
    gone = whole - left - held if gone is None else gone
    return [(kind, _UNITS * value / (whole or 1)) for kind, value in (("l", left), ("h", held), ("g", gone))]


def _bar(spans: Sequence[tuple[str, float]], label: str) -> str:
    x, parts = 0.0, []
    for kind, width in spans:
        if width > 0:
            parts.append(f'<rect class="{kind}" x="{x:.0f}" width="{max(width, 1):.0f}" height="10"/>')
        x += width
    role = f'role="img" aria-label="{html.escape(label)}"' if label else 'aria-hidden="true"'
    return f'<svg viewBox="0 0 {_UNITS} 10" preserveAspectRatio="none" {role}>{"".join(parts)}</svg>'


def _held(layer: PrunedLayer) -> str:
    if not layer.held:
        return ""
    items = "".join(
        f"<li>{html.escape(reason)}: {_ranges(channels)}</li>"
        for reason, channels in layer.channels_by_reason().items()
    )
    return f"<details><summary>{len(layer.held)}</summary><ul>{items}</ul></details>"


def _ranges(channels: Sequence[int]) -> str:
    """Return sorted numbers, runs of them as one."""
    runs: list[list[int]] = []
    for channel in channels:
        if runs and channel == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], channel]
        else:
            runs.append([channel])
    return ", ".join("–".join(map(str, run)) for run in runs)


def _list(heading: str, items: Sequence[str]) -> str:
    if not items:
        return ""
    listed = "".join(f"<li>{html.escape(item)}</li>" for item in items)
    return f'<h2>{heading}</h2>\n<div class="card"><ul>{listed}</ul></div>'
