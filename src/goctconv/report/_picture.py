"""Pictures: panels that matplotlib draws when they are needed, as a figure, a file or SVG for a page."""

from __future__ import annotations

import hashlib
import io
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._checks import ArgumentError
from .._files import write_atomic
from ._theme import (
    BACKDROP,
    FONT_SIZE,
    HELD,
    INK,
    SERIES,
    compact,
    escaped,
    look_of,
    matplotlib_settings,
    merged_boxes,
    new_figure,
    shorten,
    themed_svg,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

_WIDTH = 360.0  # points, and so the units of the SVG
_PANEL = 190.0  # height of a panel with its labels
_CHARACTER = 0.6  # width of most characters, of the font size
_MOST_MARKERS = 40  # of a line
_LONGEST_NAME, _LONGEST_LABEL = 36, 24  # characters
_TARGET = 4.0  # points around a mark where its tooltip shows
_PLACES = (  # of labels beside a point: offsets in points, and alignment
    (6, 0, "left", "center"), (-6, 0, "right", "center"), (0, 5, "center", "bottom"), (0, -5, "center", "top"),
    (5, -3, "left", "top"), (-5, 3, "right", "bottom"), (5, 3, "left", "bottom"), (-5, -3, "right", "top"),
)  # fmt: skip
_WITHOUT_SERIES = {"backdrop": BACKDROP, "held": HELD}


class _Tip(NamedTuple):
    axes: Axes
    left: float
    right: float
    bottom: float
    top: float
    text: str


@dataclass
class Plot:
    """Axes of a panel, with the marks that this package's pictures consist of.

    Attributes:
        figure: matplotlib's figure.
        axes: Of the panel.
        entries: What the legend of the picture shows, by name.
        tips: Tooltips of the picture.
    """

    figure: Figure
    axes: Axes
    entries: dict[str, Any]
    tips: list[_Tip]

    def heading(self, text: str, *, x_label: str = "", above: bool = False) -> None:
        """Name the values above the axes, and the axis below; ``above`` leaves room for labels of rules."""
        self.axes.set_title(shorten(text, 64), loc="left", color=INK, pad=16 if above else 6)
        self.axes.set_xlabel(shorten(x_label, 60))

    def bars(
        self,
        look: int | str,
        name: str,
        left: Sequence[float],
        width: Sequence[float],
        height: Sequence[float],
        tips: Sequence[str],
        bottom: Sequence[float] | None = None,
    ) -> None:
        """Draw upright bars of a series, or of ``"backdrop"`` or ``"held"``; a height of NaN draws none."""
        if isinstance(look, str):
            style: dict[str, Any] = {"color": _WITHOUT_SERIES[look]}
        else:
            color, _, _, hatch = look_of(look)
            style = {"color": color}
            if hatch:
                style = {"facecolor": (color, 0.25), "edgecolor": color, "linewidth": 0.5, "hatch": hatch}
        base = bottom or [0.0] * len(left)
        bars = self.axes.bar(left, height, width, base, align="edge", **style)
        self.entries.setdefault(name, bars)
        for start, step, low, rise, tip in zip(left, width, base, height, tips, strict=True):
            self.tips.append(_Tip(self.axes, start, start + step, low, low + rise, tip))

    def line(
        self,
        series: int,
        name: str,
        x: Sequence[float],
        y: Sequence[float],
        tips: Sequence[str],
        *,
        joined: bool = True,
    ) -> None:
        """Draw points of a series, joined except where a value is NaN, or not joined at all."""
        color, dash, marker, _ = look_of(series)
        step = max(1, math.ceil(len(x) / _MOST_MARKERS)) if joined else 1
        shown = sorted({*range(0, len(x), step), len(x) - 1}) if x else []
        style = ((0, dash) if dash else "-") if joined else "none"
        (line,) = self.axes.plot(
            x, y, color=color, linestyle=style, linewidth=1.6, marker=marker, markersize=4.5, markevery=shown
        )
        self.entries.setdefault(name, line)
        for index in shown:
            self.tips.append(_Tip(self.axes, x[index], x[index], y[index], y[index], tips[index]))

    def cells(
        self,
        x_edges: Sequence[float],
        y_edges: Sequence[float],
        shares: NDArray[np.float64],
        tips: Sequence[str],
        levels: Sequence[tuple[float, float]],
    ) -> None:
        """Draw a heat map.

        Args:
            x_edges: Of the columns.
            y_edges: Of the rows.
            shares: Of shape (columns, rows); empty cells are 0.
            tips: A tooltip for each column.
            levels: Shares up to which cells look alike, and their opacity.
        """
        lower = 0.0
        for upper, opacity in levels:
            columns, rows = np.nonzero((shares > lower) & (shares <= upper))
            x, y = np.asarray(x_edges), np.asarray(y_edges)
            corners = [(columns, rows), (columns, rows + 1), (columns + 1, rows + 1), (columns + 1, rows)]
            boxes = np.stack([np.stack([x[across], y[up]], -1) for across, up in corners], 1)
            patch = merged_boxes(boxes, SERIES[0], opacity)
            self.entries[f"≤ {upper:.0%}"] = self.axes.add_patch(patch)
            lower = upper
        self.axes.margins(x=0)
        for left, right, tip in zip(x_edges, x_edges[1:], tips, strict=False):
            self.tips.append(_Tip(self.axes, left, right, y_edges[0], y_edges[-1], tip))

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
                    shorten(label, _LONGEST_LABEL), (x, y), xytext=(dx, dy), textcoords="offset points",
                    ha=across, va=up, fontsize=FONT_SIZE - 1,
                )  # fmt: skip
                box = note.get_window_extent()
                if (
                    frame.containsx(box.x0)
                    and frame.containsx(box.x1)
                    and frame.containsy(box.y1)
                    and not any(box.overlaps(other) for other in taken)
                ):
                    taken.append(box)
                    break
                note.remove()

    def rule(self, x: float, label: str) -> None:
        """Draw an upright line with a label above."""
        self.axes.axvline(x, color=INK, linestyle=(0, (2, 2)), linewidth=1, alpha=0.7)
        self.axes.annotate(
            shorten(label, _LONGEST_LABEL), (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3),
            textcoords="offset points", fontsize=FONT_SIZE - 1, ha="center", annotation_clip=False,
        )  # fmt: skip

    def categories(self, names: Sequence[str]) -> None:
        """Put things at 0, 1, 2 and so on, their names upright where they do not fit side by side."""
        labels = [shorten(name, _LONGEST_LABEL) for name in names]
        widest = _width(max(labels, key=len)) + 4
        room = (_WIDTH - 40) / len(labels)
        upright = is_upright(names)
        step = math.ceil((FONT_SIZE + 1 if upright else widest) / room)
        self.axes.set_xticks(range(0, len(labels), step), labels[::step], rotation=90 if upright else 0)
        self.axes.set_xlim(-0.6, len(labels) - 0.4)

    def linear(self, name: Literal["x", "y"], *, whole: bool = False) -> None:
        """Give an axis few round ticks."""
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  # an extra

        axis = self._axis(name)
        axis.set_major_locator(MaxNLocator(5, integer=whole, steps=[1, 2, 5, 10] if whole else [1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(lambda value, _: compact(round(value, 12)))

    def logarithmic(self, name: Literal["x", "y"], low: float, high: float, smallest: float = 0.0) -> None:
        """Make an axis logarithmic, with ticks at powers of ten, and between them where there are few.

        Args:
            name: Which axis.
            low: Its lower end.
            high: Its upper end.
            smallest: What smaller values were taken for; its tick says so.
        """
        from matplotlib.ticker import NullFormatter  # noqa: PLC0415  # an extra

        axis, ticks = self._axis(name), _decades(low, high, smallest)
        self.axes.set(**{f"{name}scale": "log", f"{name}lim": (low, high)})
        axis.set_ticks(ticks, [f"≤ {compact(tick)}" if tick <= smallest * 1.001 else compact(tick) for tick in ticks])
        axis.set_minor_formatter(NullFormatter())

    def _axis(self, name: Literal["x", "y"]) -> Axis:
        return self.axes.xaxis if name == "x" else self.axes.yaxis


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


@dataclass(frozen=True)
class Panel:
    """One panel of a picture.

    Attributes:
        draw: Draws it.
        height: In points, with its labels.
    """

    draw: Callable[[Plot], None]
    height: float = _PANEL


def panel_of(names: Sequence[str], draw: Callable[[Plot], None]) -> Panel:
    """Return a panel with room for the names on its axis."""
    longest = min(max(map(len, names), default=0), _LONGEST_LABEL)
    return Panel(draw, _PANEL + (_CHARACTER * FONT_SIZE * longest - FONT_SIZE if is_upright(names) else 0))


def is_upright(names: Sequence[str]) -> bool:
    """Whether names on an axis have to stand upright."""
    widest = _width(max((shorten(name, _LONGEST_LABEL) for name in names), key=len, default="")) + 4
    return widest > max((_WIDTH - 40) / max(len(names), 1), 28)


def _width(text: str) -> float:
    return _CHARACTER * FONT_SIZE * len(text)


@dataclass(frozen=True)
class Picture:
    """A picture that is drawn with matplotlib when it is needed.

    The functions of `goctconv.report` return it. In a notebook it shows itself.

    Attributes:
        title: The heading.
        description: What it shows, in words.
        panels: From top to bottom.

    Example:
        >>> from goctconv.report import learning_curves
        >>> picture = learning_curves({"mine": {"epoch": [1, 2, 3], "loss": [0.7, 0.4, 0.3]}}, ["loss"])
        >>> picture.title
        'Learning curves'
        >>> picture.to_svg()[:4]
        '<svg'
    """

    title: str
    description: str
    panels: tuple[Panel, ...]

    def to_figure(self) -> Figure:
        """Return a `matplotlib.figure.Figure` with axes for each panel; pyplot is not touched.

        Raises:
            ImportError: matplotlib is not installed.
        """
        with matplotlib_settings():
            return self._drawn()[0]

    def to_svg(self, *, standalone: bool = False) -> str:
        """Return an ``svg`` element to put into a page, without scripts, and nothing loaded from elsewhere.

        It follows the reader's dark or light mode, is as wide as there is room up to a limit, and tells values as
        tooltips.

        Args:
            standalone: Whether to make a file of its own instead, with a background.

        Raises:
            ImportError: matplotlib is not installed.
        """
        key = "g" + hashlib.sha256(f"{self.title}\n{self.description}".encode(errors="replace")).hexdigest()[:8]
        with matplotlib_settings(key):
            figure, tips = self._drawn()
            drawn = io.StringIO()
            figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        shown = "".join(_shown(tip, figure) for tip in tips if tip.text)
        return themed_svg(drawn.getvalue(), self.title, self.description, key, shown, standalone=standalone)

    def save(self, path: str | Path) -> None:
        """Write the picture, the same bytes each time: as ``.svg``, ``.png``, ``.pdf``, or what matplotlib knows.

        Raises:
            ImportError: matplotlib is not installed.
            ArgumentError: The name has an ending that is unknown, or none.
        """
        path = Path(path)
        suffix = path.suffix.lower()
        if suffix == ".svg":
            text = self.to_svg(standalone=True) + "\n"
            write_atomic(path, lambda stream: stream.write(text.encode()))
            return
        with matplotlib_settings():
            figure, _ = self._drawn()
            known = sorted(figure.canvas.get_supported_filetypes())
            if suffix[1:] not in known:
                raise ArgumentError("path", str(path), f"a name that ends in one of .{', .'.join(known)}")
            metadata = {"CreationDate": None} if suffix == ".pdf" else None  # or each file would differ
            write_atomic(path, lambda stream: figure.savefig(stream, format=suffix[1:], dpi=220, metadata=metadata))

    def _repr_svg_(self) -> str:
        return self.to_svg(standalone=True)

    def _drawn(self) -> tuple[Figure, list[_Tip]]:
        title = textwrap.wrap(shorten(self.title, 160), 44) or [""]
        entries: dict[str, Any] = {}
        tips: list[_Tip] = []
        heights = [panel.height for panel in self.panels]
        figure = new_figure(_WIDTH, sum(heights) + 17 * len(title) + 4)
        figure.suptitle("\n".join(title), x=0.01, ha="left", fontsize=13, fontweight="bold")
        grid = figure.subplots(len(heights), squeeze=False, gridspec_kw={"height_ratios": heights})
        for panel, axes in zip(self.panels, grid[:, 0], strict=True):
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            panel.draw(Plot(figure, axes, entries, tips))
        if len(entries) > 1:
            _add_legend(figure, entries)
        return figure, tips


def _add_legend(figure: Figure, entries: dict[str, Any]) -> None:
    """Add a legend below the panels, in as many rows as it needs, and make the figure higher by them."""
    names = [shorten(name, _LONGEST_NAME) for name in entries]
    columns = max(1, int((_WIDTH - 8) / (_width(max(names, key=len)) + 46)))
    figure.set_figheight(figure.get_figheight() + 17 * math.ceil(len(names) / columns) / 72 + 0.1)
    figure.legend(
        list(entries.values()), names, loc="outside lower left", ncols=columns, frameon=False, fontsize=FONT_SIZE,
        handlelength=2.2, handletextpad=0.6, columnspacing=1.2, labelspacing=0.35, borderpad=0.2,
    )  # fmt: skip


def _shown(tip: _Tip, figure: Figure) -> str:
    """Return an element over a mark that shows a tooltip; none where a value is missing."""
    (left, bottom), (right, top) = tip.axes.transData.transform([(tip.left, tip.bottom), (tip.right, tip.top)])
    frame = tip.axes.bbox
    left, right = max(left, frame.x0), min(right, frame.x1)
    bottom, top = max(bottom, frame.y0), min(top, frame.y1)
    if not all(map(math.isfinite, (left, right, bottom, top))):
        return ""
    x_pad, y_pad = (max(0.0, _TARGET - (end - start) / 2) for start, end in ((left, right), (bottom, top)))
    x, y = left - x_pad, figure.bbox.height - top - y_pad
    width, height = right - left + 2 * x_pad, top - bottom + 2 * y_pad
    where = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="tip" {where}><title>{escaped(tip.text)}</title></rect>'
