"""Axes of a panel, with the marks and ticks of this package's pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._theme import FONT_SIZE, INK, SERIES, WIDTH, compact, escaped, look_of, shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

CHARACTER = 0.6 * FONT_SIZE  # width of most characters
_ROOM = WIDTH - 40.0  # for names on an axis
Numbers: TypeAlias = Sequence[float] | NDArray[Any]

LONGEST_LABEL = 24  # characters
_MOST_MARKERS = 40  # of a line
_TARGET = 4.0  # points around a mark where its tooltip shows
_SHADES = ((0.01, 0.2), (0.03, 0.35), (0.1, 0.53), (0.3, 0.75), (1.0, 1.0))  # shares up to which cells are so opaque
_PLACES = (  # of labels beside a point: offsets in points, and alignment
    (6, 0, "left", "center"), (-6, 0, "right", "center"), (0, 5, "center", "bottom"), (0, -5, "center", "top"),
    (5, -3, "left", "top"), (-5, 3, "right", "bottom"), (5, 3, "left", "bottom"), (-5, -3, "right", "top"),
)  # fmt: skip


class Tip(NamedTuple):
    """Tooltip of a box, in the coordinates of its axes."""

    axes: Axes
    left: float
    right: float
    bottom: float
    top: float
    text: str

    def to_svg(self, height: float) -> str:
        """Return an element of a picture of a height that shows it; none where a value is missing."""
        corners = [(self.left, self.bottom), (self.right, self.top)]
        (left, bottom), (right, top) = self.axes.transData.transform(corners)
        frame = self.axes.bbox
        left, right, bottom, top = max(left, frame.x0), min(right, frame.x1), max(bottom, frame.y0), min(top, frame.y1)
        if not all(map(math.isfinite, (left, right, bottom, top))):
            return ""
        across, up = (max(0.0, _TARGET - (end - start) / 2) for start, end in ((left, right), (bottom, top)))
        size = f'width="{right - left + 2 * across:.1f}" height="{top - bottom + 2 * up:.1f}"'
        where = f'x="{left - across:.1f}" y="{height - top - up:.1f}" {size}'
        return f'<rect class="tip" {where}><title>{escaped(self.text)}</title></rect>'


@dataclass
class Plot:
    """Axes of a panel, with the marks that this package's pictures consist of."""

    figure: Figure
    axes: Axes
    entries: dict[str, Any]  # of the legend, by name
    tips: list[Tip]

    def heading(self, text: str, x_label: str, rules: Mapping[str, float] | None = None) -> None:
        """Name the values above the axes, and the axis below; draw upright lines with labels."""
        self.axes.set_title(shorten(text, 64), loc="left", color=INK, pad=16 if rules else 6)
        self.axes.set_xlabel(shorten(x_label, 60))
        for label, place in (rules or {}).items():
            self.axes.axvline(float(place), color=INK, linestyle=(0, (2, 2)), linewidth=1, alpha=0.7)
            self.axes.annotate(
                shorten(label, LONGEST_LABEL), (float(place), 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
                textcoords="offset points", fontsize=FONT_SIZE - 1, ha="center", annotation_clip=False,
            )  # fmt: skip

    def bars(
        self, series: int, name: str, left: Numbers, right: Numbers, heights: Numbers, things: Sequence[str]
    ) -> None:
        """Draw an upright bar for each thing; a height of NaN draws none."""
        color, _, _, hatch = look_of(series)
        style: dict[str, Any] = {"color": color}
        if hatch:
            style = {"facecolor": (color, 0.25), "edgecolor": color, "linewidth": 0.5, "hatch": hatch}
        bars = self.axes.bar(left, heights, np.subtract(right, left), align="edge", **style)
        self.entries.setdefault(name, bars)
        for start, end, height, thing in zip(left, right, heights, things, strict=True):
            self.tips.append(Tip(self.axes, start, end, 0, height, f"{thing}, {name}: {compact(height)}"))

    def line(
        self, series: int, name: str, x: Numbers, y: Numbers, *, labels: Sequence[str] = (), joined: bool = True
    ) -> None:
        """Draw points of a series, joined except where a value is NaN, or not joined at all."""
        color, dash, marker, _ = look_of(series)
        step = max(1, math.ceil(len(x) / _MOST_MARKERS)) if joined else 1
        shown = sorted({*range(0, len(x), step), len(x) - 1}) if len(x) else []
        style = ((0, dash) if dash else "-") if joined else "none"
        (line,) = self.axes.plot(
            x, y, color=color, linestyle=style, linewidth=1.6, marker=marker, markersize=4.5, markevery=shown
        )
        self.entries.setdefault(name, line)
        for index in shown:
            label = f"{labels[index]}, " if labels and labels[index] else ""
            text = f"{label}{name}, {self.axes.get_xlabel()} {compact(x[index])}: {compact(y[index])}"
            self.tips.append(Tip(self.axes, x[index], x[index], y[index], y[index], text))

    def cells(self, x_edges: Numbers, y_edges: Numbers, shares: NDArray[np.float64], tips: Sequence[str]) -> None:
        """Draw a heat map of shares (columns, rows), with a tooltip for each column; empty cells are 0."""
        from matplotlib.patches import PathPatch  # noqa: PLC0415  # an extra
        from matplotlib.path import Path  # noqa: PLC0415

        x, y, lower = np.asarray(x_edges), np.asarray(y_edges), 0.0
        for upper, opacity in _SHADES:
            columns, rows = np.nonzero((shares > lower) & (shares <= upper))
            corners = [(columns, rows), (columns, rows + 1), (columns + 1, rows + 1), (columns + 1, rows)]
            boxes = np.stack([np.stack([x[across], y[up]], -1) for across, up in corners], 1)
            path = Path.make_compound_path_from_polys(boxes)  # one, so that thousands of cells stay small in SVG
            patch = PathPatch(path, facecolor=SERIES[0], alpha=opacity, linewidth=0, antialiased=False)
            self.entries[f"≤ {upper:.0%}"] = self.axes.add_patch(patch)
            lower = upper
        self.axes.margins(x=0)
        for left, right, tip in zip(x_edges, x_edges[1:], tips, strict=False):
            self.tips.append(Tip(self.axes, left, right, y_edges[0], y_edges[-1], tip))

    def labels(self, points: Sequence[tuple[float, float, str]]) -> None:
        """Write labels beside points (x, y, label) where there is room; tooltips tell the others."""
        from matplotlib.transforms import Bbox  # noqa: PLC0415  # an extra

        self.figure.draw_without_rendering()  # lays out, so that extents are known
        paths = [self.axes.transData.transform_path(line.get_path()).interpolated(12) for line in self.axes.lines]
        along = np.concatenate([np.asarray(path.vertices, dtype=np.float64) for path in paths]).tolist()
        taken = [Bbox.from_extents(x - 3, y - 3, x + 3, y + 3) for x, y in along]
        frame = self.axes.bbox.padded(6)
        for x, y, label in points:
            for dx, dy, across, up in _PLACES:
                note = self.axes.annotate(
                    shorten(label, LONGEST_LABEL), (x, y), xytext=(dx, dy), textcoords="offset points",
                    ha=across, va=up, fontsize=FONT_SIZE - 1,
                )  # fmt: skip
                box = note.get_window_extent()
                is_inside = frame.contains(box.x0, box.y1) and frame.contains(box.x1, box.y1)
                if is_inside and not any(box.overlaps(other) for other in taken):
                    taken.append(box)
                    break
                note.remove()

    def categories(self, names: Sequence[str]) -> None:
        """Put things at 0, 1, 2 and so on, their names upright where they do not fit side by side."""
        labels = [shorten(name, LONGEST_LABEL) for name in names]
        upright = is_upright(labels)
        step = math.ceil((FONT_SIZE + 1 if upright else _width(labels)) * len(labels) / _ROOM)
        self.axes.set_xticks(range(0, len(labels), step), labels[::step], rotation=90 if upright else 0)
        self.axes.set_xlim(-0.6, len(labels) - 0.4)

    def linear(self, name: Literal["x", "y"], *, whole: bool = False) -> None:
        """Give an axis few round ticks."""
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  # an extra

        axis: Axis = getattr(self.axes, f"{name}axis")
        axis.set_major_locator(MaxNLocator(5, integer=whole, steps=[1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(lambda value, _: compact(round(value, 12)))

    def logarithmic(self, name: Literal["x", "y"], low: float, high: float, smallest: float = 0.0) -> None:
        """Make an axis logarithmic, from ``low`` to ``high``; the tick of ``smallest`` includes smaller values."""
        from matplotlib.ticker import NullFormatter  # noqa: PLC0415  # an extra

        axis: Axis = getattr(self.axes, f"{name}axis")
        ticks = _decades(low, high, smallest)
        self.axes.set(**{f"{name}scale": "log", f"{name}lim": (low, high)})
        axis.set_ticks(ticks, [f"≤ {compact(tick)}" if tick <= smallest * 1.001 else compact(tick) for tick in ticks])
        axis.set_minor_formatter(NullFormatter())


def _decades(low: float, high: float, smallest: float) -> list[float]:
    """Return ticks of a logarithmic axis."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first < 2:
        steps = [factor * 10.0**exponent for exponent in range(first - 1, last + 1) for factor in (1, 2, 5)]
        return [step for step in steps if low * 0.999 <= step <= high * 1.001] or [low]
    stride = max(1, math.ceil((last - first) / 6))
    ticks = [10.0**exponent for exponent in range(first, last + 1) if exponent % stride == 0]
    if low > smallest * 1.001:
        return ticks
    return [smallest, *(tick for tick in ticks if tick > smallest * 10.0 ** (stride / 2))]


def is_upright(names: Sequence[str]) -> bool:
    """Whether names on an axis have to stand upright."""
    return _width(names) > max(_ROOM / len(names), 28)


def _width(names: Sequence[str]) -> float:
    return CHARACTER * min(max(map(len, names)), LONGEST_LABEL) + 4
