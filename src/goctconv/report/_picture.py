"""Pictures: panels that matplotlib draws when they are needed, as a figure, a file or SVG for a page."""

from __future__ import annotations

import hashlib
import io
import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._checks import ArgumentError
from .._files import write_atomic
from ._plot import CHARACTER, LONGEST_LABEL, Plot, Tip, is_upright
from ._theme import FONT_SIZE, WIDTH, matplotlib_settings, new_figure, shorten, themed_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANEL = 190.0  # points: height of a panel with its labels
_LONGEST_NAME = 36  # characters


@dataclass(frozen=True)
class Panel:
    """One panel of a picture, of a height in points with its labels."""

    draw: Callable[[Plot], None]
    height: float = _PANEL


def panel_of(names: Sequence[str], draw: Callable[[Plot], None]) -> Panel:
    """Return a panel with room for the names on its axis."""
    longest = min(max(map(len, names)), LONGEST_LABEL)
    return Panel(draw, _PANEL + (CHARACTER * longest - FONT_SIZE if is_upright(names) else 0))


@dataclass(frozen=True)
class Picture:
    """A picture that is drawn with matplotlib when it is needed; `goctconv.report` documents it.

    Example:
        >>> from goctconv.report import learning_curves
        >>> picture = learning_curves({"mine": {"epoch": [1, 2, 3], "loss": [0.7, 0.4, 0.3]}}, ["loss"])
        >>> picture.title, picture.to_svg()[:4]
        ('Learning curves', '<svg')
    """

    title: str
    description: str
    panels: tuple[Panel, ...]  # from top to bottom

    def to_figure(self) -> Figure:
        """Return a `matplotlib.figure.Figure` with axes for each panel; pyplot is not touched."""
        with matplotlib_settings():
            return self._drawn()[0]

    def to_svg(self, *, standalone: bool = False) -> str:
        """Return an ``svg`` element for a page, as wide as there is room, up to a limit; or a file of its own."""
        key = "g" + hashlib.sha256(f"{self.title}\n{self.description}".encode(errors="replace")).hexdigest()[:8]
        with matplotlib_settings(key):
            figure, tips = self._drawn()
            drawn = io.StringIO()
            figure.savefig(drawn, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        over = "".join(tip.to_svg(figure.bbox.height) for tip in tips)
        return themed_svg(drawn.getvalue(), self.title, self.description, key, over, standalone=standalone)

    def save(self, path: str | Path) -> None:
        """Write the picture, the same bytes each time: as ``.svg``, ``.png``, ``.pdf``, or what matplotlib knows."""
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

    def _drawn(self) -> tuple[Figure, list[Tip]]:
        title = textwrap.wrap(shorten(self.title, 160), 44) or [""]
        entries: dict[str, Any] = {}
        tips: list[Tip] = []
        heights = [panel.height for panel in self.panels]
        figure = new_figure(WIDTH, sum(heights) + 17 * len(title) + 4)
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
    columns = max(1, int((WIDTH - 8) / (CHARACTER * max(map(len, names)) + 46)))
    figure.set_figheight(figure.get_figheight() + 17 * math.ceil(len(names) / columns) / 72 + 0.1)
    figure.legend(
        list(entries.values()), names, loc="outside lower left", ncols=columns, frameon=False, fontsize=FONT_SIZE,
        handlelength=2.2, handletextpad=0.6, columnspacing=1.2, labelspacing=0.35, borderpad=0.2,
    )  # fmt: skip
