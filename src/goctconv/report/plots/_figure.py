"""A picture with matplotlib."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from ._picture import BACKDROP, LEVELS, Bars, Cells, Line, Panel, Picture, Rule, matplotlib_figure
from ._style import DASHES, HATCHES, LIGHT, LIGHT_BACKDROP, MARKERS, look_of
from ._svg_marks import Plot, place_labels, shade
from ._text import readable, shorten, width_of

_WIDTH = 6.4  # inches
_PANEL = 2.6
_PLOT = (0.0, 0.0, 380.0, 140.0)  # about what a panel measures in points
_MOST_NAMES = 40  # of things on an axis
_LONGEST_NAME = 36  # characters


def render_figure(picture: Picture) -> Any:
    """Return the figure."""
    height = _PANEL * len(picture.panels) + 0.8
    figure = matplotlib_figure()(figsize=(_WIDTH, height), layout="constrained")
    figure.suptitle("\n".join(textwrap.wrap(_plain(shorten(picture.title, 160)), 70)), fontsize=11)
    entries: dict[str, Any] = {}
    for panel, axes in zip(picture.panels, figure.subplots(len(picture.panels), squeeze=False)[:, 0], strict=True):
        _set_axes(panel, axes)
        for mark in panel.marks:
            _draw(mark, axes, picture, entries)
        for label in place_labels(Plot(panel, *_PLOT)):
            offset = {"xytext": (label.dx, -label.dy), "textcoords": "offset points"}
            axes.annotate(_plain(label.text), (label.x, label.y), fontsize=8, **offset)
    named = [picture.backdrop, *picture.series]
    ordered = sorted(entries, key=lambda name: named.index(name) if name in named else len(named))
    if len(ordered) > 1:
        labels = [_plain(shorten(name, _LONGEST_NAME)) for name in ordered]
        handles = [entries[name] for name in ordered]
        columns = 5 if all(len(label) < 12 for label in labels) else 2
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    return figure


def _set_axes(panel: Panel, axes: Any) -> None:
    for axis, name in ((panel.x, "x"), (panel.y, "y")):
        if axis.is_log:
            getattr(axes, f"set_{name}scale")("log")
        ticks = axis.ticks
        if axis.is_categorical:
            ticks = ticks[:: math.ceil(len(ticks) / _MOST_NAMES)]
        labels = [_plain(shorten(label, 24)) for _, label in ticks]
        turned = {"rotation": 90} if axis.is_categorical and _needs_turning(labels) else {}
        getattr(axes, f"set_{name}ticks")([value for value, _ in ticks], labels, fontsize=8, **turned)
        getattr(axes, f"set_{name}lim")(*axis.limits)
        getattr(axes, f"{name}axis").minorticks_off()
    axes.set(xlabel=_plain(panel.x.label), ylabel=_plain(panel.y.label))
    if panel.title:
        axes.set_title(_plain(panel.title), fontsize=9, loc="left")
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _needs_turning(labels: list[str]) -> bool:
    return sum(width_of(label, 8) + 6 for label in labels) > 72 * (_WIDTH - 0.8)


def _draw(mark: Any, axes: Any, picture: Picture, entries: dict[str, Any]) -> None:
    if isinstance(mark, Bars):
        name = picture.backdrop if mark.series == BACKDROP else picture.series[mark.series]
        entries.setdefault(name, _draw_bars(mark, axes))
    elif isinstance(mark, Line):
        entries.setdefault(picture.series[mark.series], _draw_line(mark, axes))
    elif isinstance(mark, Cells):
        entries.update(_draw_cells(mark, axes))
    elif isinstance(mark, Rule):
        axes.axvline(mark.x, color="0.3", linestyle=":", linewidth=1)
        axes.annotate(
            _plain(shorten(mark.label, 24)), (mark.x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", fontsize=8, ha="center", annotation_clip=False,
        )  # fmt: skip


def _draw_bars(mark: Bars, axes: Any) -> Any:
    widths = [right - left for left, right in zip(mark.left, mark.right, strict=True)]
    if mark.series == BACKDROP:
        return axes.bar(mark.left, mark.height, widths, align="edge", color=LIGHT_BACKDROP)
    look = look_of(mark.series)
    color, hatch = LIGHT[look.color], HATCHES[look.hatch][1]
    if not hatch:
        return axes.bar(mark.left, mark.height, widths, align="edge", color=color)
    style = {"facecolor": _faded(color, 0.25), "edgecolor": color, "linewidth": 0.5, "hatch": hatch}
    return axes.bar(mark.left, mark.height, widths, align="edge", **style)


def _draw_line(mark: Line, axes: Any) -> Any:
    look = look_of(mark.series)
    dash = DASHES[look.dash]
    (line,) = axes.plot(
        mark.x, mark.y, color=LIGHT[look.color], linewidth=1.5, markersize=4,
        linestyle=((0, dash) if dash else "-") if mark.is_joined else "none",
        marker=MARKERS[look.marker][1] if mark.has_markers else None,
        markevery=max(1, math.ceil(len(mark.x) / 40)) if mark.is_joined else None,
    )  # fmt: skip
    return line


def _draw_cells(mark: Cells, axes: Any) -> dict[str, Any]:
    """Draw one collection for each shade; return what the legend shows."""
    entries = {}
    lower = 0.0
    for level, upper in enumerate(LEVELS):
        color = _faded(LIGHT[0], shade(level))
        boxes = [
            [(mark.x_edges[i], mark.y_edges[j]), (mark.x_edges[i], mark.y_edges[j + 1]),
             (mark.x_edges[i + 1], mark.y_edges[j + 1]), (mark.x_edges[i + 1], mark.y_edges[j])]
            for i, shares in enumerate(mark.shares) for j, share in enumerate(shares) if lower < share <= upper
        ]  # fmt: skip
        for box in boxes:
            axes.fill(*zip(*box, strict=True), color=color, linewidth=0)
        (entries[f"≤ {upper:.0%}"],) = axes.fill([math.nan], [math.nan], color=color)
        lower = upper
    return entries


def _faded(color: str, opacity: float) -> tuple[float, float, float]:
    """Return a colour over white."""
    red, green, blue = (1 - opacity * (1 - int(color[start : start + 2], 16) / 255) for start in (1, 3, 5))
    return red, green, blue


def _plain(text: str) -> str:
    return readable(text).replace("$", r"\$")  # $ would begin a formula
