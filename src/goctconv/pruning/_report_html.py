"""The report as a page: one file, no scripts, nothing loaded from elsewhere."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ._report_text import number, share

if TYPE_CHECKING:
    from ._reasons import ReasonGroup
    from ._report import PrunedLayer, PruningReport

_UNITS = 1000  # the width of a bar in its own coordinates
_SHORT = 4  # places of a reason that are listed at once; more of them open
_NAME = re.compile(r"\w*[A-Za-z_]\w*(?:\.\w+)+|\w+(?:\.\w+)*\.[A-Za-z_]\w*")  # of a module, and no number such as 0.5

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5f6670; --page: #f6f7f8; --card: #fff; --line: #dfe2e6;
  --left: #2f6fb0; --held: #d98a1f; --gone: #cdd3da; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaed; --soft: #9aa2ad; --page: #141619; --card: #1d2024;
  --line: #32373d; --left: #6ea8e0; --held: #e0a04a; --gone: #454c55; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 1100px; background: var(--page); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { margin: 0 0 .25rem; font-size: 1.5rem; }
h2 { margin: 1.6rem 0 .5rem; font-size: 1.1rem; }
p { margin: .25rem 0 .6rem; color: var(--soft); }
.card { padding: .3rem .9rem; border: 1px solid var(--line); border-radius: 10px; background: var(--card); }
.card > * + * { border-top: 1px solid var(--line); }
.row { display: grid; grid-template-columns: minmax(0, 3fr) 9rem minmax(0, 5fr) 7.5rem; gap: 0 1rem;
  align-items: center; padding: .25rem 0; }
.totals .row { grid-template-columns: minmax(0, 3fr) 15rem minmax(0, 5fr) 4rem; }
.head { color: var(--soft); font-size: .9em; font-weight: 600; }
.n, .end { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
svg { display: block; width: 100%; height: 11px; }
.l { fill: var(--left); background: var(--left); } .h { fill: var(--held); background: var(--held); }
.g { fill: var(--gone); background: var(--gone); }
.key span { display: inline-block; margin-right: .9em; white-space: nowrap; }
.key i { display: inline-block; width: .8em; height: .8em; margin-right: .35em; border-radius: 2px; }
code { font: .9em ui-monospace, monospace; }
summary { cursor: pointer; list-style: none; }
summary::-webkit-details-marker { display: none; }
summary .more::after { content: ""; display: inline-block; width: .42em; height: .42em; margin: 0 .25em .15em .5em;
  border: solid currentColor; border-width: 0 2px 2px 0; transform: rotate(-45deg); }
details[open] > summary .more::after { transform: rotate(45deg); }
details[open] > summary .few { display: none; }
ul { margin: 0; padding: 0; list-style: none; }
.card > li { padding: .3rem 0; }
.why > li { display: grid; grid-template-columns: 3.6rem minmax(0, 1fr); gap: .8rem; }
.why strong { text-align: right; font-variant-numeric: tabular-nums; }
.place { display: inline-block; max-width: 100%; }
li p, .row + ul { margin-bottom: .2rem; font-size: .9em; color: var(--soft); }
.row + ul { padding: 0 0 .5rem 1rem; }
@media (max-width: 760px) {
  .row, .totals .row { grid-template-columns: minmax(0, 1fr) auto; }
  .row .end { grid-area: 1 / 2; }
  .row .n { grid-area: 2 / 1 / 3 / 3; text-align: left; }
  .row svg { grid-column: 1 / 3; margin: .2rem 0 .15rem; }
  .totals .head .n { grid-area: 1 / 1; }
  .why > li { grid-template-columns: 3.2rem minmax(0, 1fr); gap: .5rem; }
}
"""

_KEY = (
    '<p class="key"><span><i class="l"></i>stays, live</span><span><i class="h"></i>masked, but stays</span>'
    '<span><i class="g"></i>removed</span> The widest layer has the longest bar.</p>'
)


def render_html(report: PruningReport, title: str) -> str:
    """Return the page."""
    shown = html.escape(title)
    checked = report.proof()
    parts = [
        f"<h1>{_breakable(title).replace('/', '/<wbr>')}</h1>\n<p>{html.escape(report.summary())}</p>",
        f"<p>{html.escape(checked)}</p>" if checked else "",
        _totals(report),
        _groups("Why masked channels stay", report.grouped_reasons()),
        *(f"<p>{html.escape(hint)}</p>" for hint in report.hints()),
        _notes(report.notes),
        f"<h2>Layers</h2>\n{_KEY}\n{_layers(report.layers)}" if report.layers else "",
    ]
    body = "\n".join(part for part in parts if part)
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{shown}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _totals(report: PruningReport) -> str:
    rows = [
        _row(name, f"{number(before)} → {number(after)}", _bar(_spans(before, after, 0), ""), share(before, after))
        for name, before, after in report.totals()
    ]
    return f'<div class="card totals">{_head("", "before → after", "left")}{"".join(rows)}</div>'


def _layers(layers: dict[str, PrunedLayer]) -> str:
    widest = max(layer.channels for layer in layers.values()) or 1
    rows = "\n".join(_layer(name, layer, widest) for name, layer in layers.items())
    return f'<div class="card">{_head("BatchNorm", "channels", "masked, stay")}\n{rows}</div>'


def _head(name: str, numbers: str, end: str) -> str:
    return _row(name, numbers, "<i></i>", end).replace('"row"', '"row head"')


def _row(name: str, numbers: str, bar: str, end: str, tag: str = "div") -> str:
    cells = f'<span>{name}</span><span class="n">{numbers}</span>{bar}<span class="end">{end}</span>'
    return f'<{tag} class="row">{cells}</{tag}>'


def _layer(name: str, layer: PrunedLayer, widest: int) -> str:
    held = len(layer.held)
    label = f"{layer.left - held:,} live, {held:,} masked that stay, {layer.removed:,} removed"
    bar = _bar(_spans(widest, layer.left - held, held, layer.removed), label)
    shown, numbers = f"<code>{_at_dots(name)}</code>", f"{layer.channels:,} → {layer.left:,}"
    if not held:
        return _row(shown, numbers, bar, "")
    reasons = "".join(
        f"<li>{_breakable(str(reason))}: {_ranges(channels)}</li>"
        for reason, channels in layer.channels_by_reason().items()
    )
    opener = _row(shown, numbers, bar, f'<span class="more">{held:,}</span>', "summary")
    return f"<details>{opener}<ul>{reasons}</ul></details>"


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


def _ranges(channels: Sequence[int]) -> str:
    """Return sorted numbers, runs of them as one."""
    runs: list[list[int]] = []
    for channel in channels:
        if runs and channel == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], channel]
        else:
            runs.append([channel])
    return ", ".join("–".join(map(str, run)) for run in runs)


def _groups(heading: str, groups: Sequence[ReasonGroup]) -> str:
    """Return a list of reasons with all of their places; long ones open."""
    items = "\n".join(map(_group, groups))
    return f'<h2>{heading}</h2>\n<ul class="card why">{items}</ul>' if groups else ""


def _notes(notes: Sequence[str]) -> str:
    items = "\n".join(f"<li><span>{_breakable(note)}</span></li>" for note in notes)
    return f'<h2>Notes</h2>\n<ul class="card">{items}</ul>' if notes else ""


def _group(group: ReasonGroup) -> str:
    count = f"<strong>{group.count:,}</strong>"
    if len(group.places) == 1:
        return f"<li>{count}<span>{_breakable(str(group))}</span></li>"
    most = sorted(group.places.items(), key=lambda item: -item[1])
    text = _breakable(group.text)
    places = [f"{_breakable(place)} ({number:,})" for place, number in most]
    if len(places) <= _SHORT:
        return f"<li>{count}<span>{text}: {_listed(places)}</span></li>"
    few = _listed([*places[:2], f"{len(places) - 2:,} more"])
    opener = f'<summary>{text}<span class="few">: {few}</span><span class="more"></span></summary>'
    return f"<li>{count}<details>{opener}<p>{_listed(places)}</p></details></li>"


def _listed(places: Sequence[str]) -> str:
    commas = [","] * (len(places) - 1) + [""]
    spans = (f'<span class="place">{place}{comma}</span>' for place, comma in zip(places, commas, strict=True))
    return " ".join(spans)


def _breakable(text: str) -> str:
    """Return a text as HTML whose names of modules may break behind dots, and nowhere else."""
    parts, end = [], 0
    for found in _NAME.finditer(text):
        parts += [html.escape(text[end : found.start()]), _at_dots(found[0])]
        end = found.end()
    return "".join([*parts, html.escape(text[end:])])


def _at_dots(name: str) -> str:
    return html.escape(name).replace(".", ".<wbr>")
