"""Page of a pruning: what was removed of every layer, and every reason why masked channels stayed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from ..pruning import PruningReport
from ._page import format_share, html_page, paragraph, section
from ._theme import escaped

_SHORT = 4  # places of a reason that are listed at once; more of them open
_NAME = re.compile(r"\w*[A-Za-z_]\w*(?:\.\w+)+|\w+(?:\.\w+)*\.[A-Za-z_]\w*")  # of a module, and no number such as 0.5

_KEY = (
    '<p class="key"><span><i class="live"></i>stays, live</span><span><i class="held"></i>masked, but stays</span>'
    '<span><i class="gone"></i>removed</span> The widest layer has the longest bar.</p>'
)


def pruning_page(report: PruningReport, title: str = "Removed channels") -> str:
    """Return a page about a pruning, as HTML: every layer with a bar, and every masked channel that stayed.

    Nothing is loaded from elsewhere, no scripts run, and it follows the reader's dark or light mode.

    Args:
        report: Of a pruning, or of a plan.
        title: The heading.

    Example:
        >>> import timm, torch
        >>> from goctconv.pruning import prune_channels
        >>> from goctconv.report import pruning_page
        >>> model = timm.create_model("test_resnet", zero_init_last=False).eval()
        >>> report = prune_channels(model, torch.zeros(1, 3, 64, 64), ratio=0.3, bn_bias="zero").report
        >>> f"of {report.masked} masked channels removed" in pruning_page(report)
        True
    """
    parts = [
        paragraph(report.summary()),
        *map(paragraph, _masking(report)),
        paragraph(report.proof()),
        _totals(report),
        _reasons(report),
        *map(paragraph, report.hints()),
        _list("Notes", [f"<li><span>{_breakable(note)}</span></li>" for note in report.remarks()], "card list"),
        section("Layers", [_KEY, _layers(report)] if report.layers else []),
    ]
    return html_page(title, parts, _breakable(title).replace("/", "/<wbr>"))


def _masking(report: PruningReport) -> list[str]:
    effect = report.masking if report.masked else None
    texts = [] if effect is None else [effect.summary(), report.warning()]
    return [f"{text[0].upper()}{text[1:]}." for text in texts if text]


def _totals(report: PruningReport) -> str:
    rows = [
        _row(name, f"{_number(before)} → {_number(after)}", _bar(before, after, 0), format_share(before, after))
        for name, before, after in report.totals()
    ]
    head = _row("", "before → after", "<i></i>", "left", kind="row head")
    return f'<div class="card list totals">{head}{"".join(rows)}</div>'


def _layers(report: PruningReport) -> str:
    widest = max(layer.channels for layer in report.layers.values())
    rows = "\n".join(_layer(report, name, widest) for name in report.layers)
    head = _row("BatchNorm", "channels", "<i></i>", "masked, stay", kind="row head")
    return f'<div class="card list">{head}\n{rows}</div>'


def _row(name: str, numbers: str, bar: str, end: str, tag: str = "div", kind: str = "row") -> str:
    cells = f'<span>{name}</span><span class="n">{numbers}</span>{bar}<span class="end">{end}</span>'
    return f'<{tag} class="{kind}">{cells}</{tag}>'


def _layer(report: PruningReport, name: str, widest: int) -> str:
    layer = report.layers[name]
    held = len(layer.held)
    live = layer.left - held
    label = f"{live:,} live, {held:,} masked that stay, {layer.removed:,} removed"
    bar = _bar(widest, live, held, layer.removed, label)
    shown, numbers = f"<code>{_at_dots(name)}</code>", f"{layer.channels:,} → {layer.left:,}"
    if not held:
        return _row(shown, numbers, bar, "")
    held_by = layer.channels_by_reason().items()
    reasons = "".join(f"<li>{_breakable(str(reason))}: {_ranges(channels)}</li>" for reason, channels in held_by)
    opener = _row(shown, numbers, bar, f'<span class="more">{held:,}</span>', "summary")
    return f"<details>{opener}<ul>{reasons}</ul></details>"


def _bar(whole: float, live: float, held: float, gone: float | None = None, label: str = "") -> str:
    gone = whole - live - held if gone is None else gone
    widths = {kind: 100 * value / (whole or 1) for kind, value in (("live", live), ("held", held), ("gone", gone))}
    parts = "".join(f'<i class="{kind}" style="width:{width:.2f}%"></i>' for kind, width in widths.items() if width > 0)
    role = f'role="img" aria-label="{escaped(label)}"' if label else 'aria-hidden="true"'
    return f'<span class="bar" {role}>{parts}</span>'


def _ranges(channels: Sequence[int]) -> str:
    """Return sorted numbers, runs of them as one."""
    runs = [[pair[1] for pair in run] for _, run in groupby(enumerate(channels), lambda pair: pair[1] - pair[0])]
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _reasons(report: PruningReport) -> str:
    """Return a list of reasons with all of their places; long ones open."""
    items = [
        f"<li><strong>{group.count:,}</strong>{_places(str(group), group.text, group.places)}</li>"
        for group in report.grouped_reasons()
    ]
    return _list("Why masked channels stay", items, "card list why")


def _list(heading: str, items: Sequence[str], kind: str) -> str:
    listed = "\n".join(items)
    return section(heading, [f'<ul class="{kind}">{listed}</ul>'] if items else [])


def _places(whole: str, text: str, counts: Mapping[str, int]) -> str:
    """Return a reason with the places where it holds channels."""
    if len(counts) == 1:
        return f"<span>{_breakable(whole)}</span>"
    most = sorted(counts.items(), key=lambda item: -item[1])
    places = [f"{_breakable(place)} ({channels:,})" for place, channels in most]
    if len(places) <= _SHORT:
        return f"<span>{_breakable(text)}: {_listed(places)}</span>"
    few = _listed([*places[:2], f"{len(places) - 2:,} more"])
    opener = f'<summary>{_breakable(text)}<span class="few">: {few}</span><span class="more"></span></summary>'
    return f"<details>{opener}<p>{_listed(places)}</p></details>"


def _listed(places: Sequence[str]) -> str:
    shown = [*(f"{place}," for place in places[:-1]), *places[-1:]]
    return " ".join(f'<span class="place">{place}</span>' for place in shown)


def _breakable(text: str) -> str:
    """Return a text as HTML whose names of modules may break behind dots, and nowhere else."""
    parts, end = [], 0
    for found in _NAME.finditer(text):
        parts += [escaped(text[end : found.start()]), _at_dots(found[0])]
        end = found.end()
    return "".join([*parts, escaped(text[end:])])


def _at_dots(name: str) -> str:
    return escaped(name).replace(".", ".<wbr>")
