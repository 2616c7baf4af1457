"""What a picture shows, before anyone draws it: panels of bars, lines, points and cells."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from ._axes import Axis

BACKDROP = -1  # the series that the others are compared with: grey
LEVELS = (0.01, 0.03, 0.1, 0.3, 1.0)  # shares up to which cells have the same shade


@dataclass(frozen=True)
class Bars:
    """Upright bars from the axis: of a series, the left and right ends, heights and tooltips."""

    series: int
    left: tuple[float, ...]
    right: tuple[float, ...]
    height: tuple[float, ...]
    tips: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """Points of a series with tooltips, joined by lines except where a value is NaN, or not joined at all.

    ``labels`` are written beside the points; empty ones are not.
    """

    series: int
    x: tuple[float, ...]
    y: tuple[float, ...]
    tips: tuple[str, ...]
    labels: tuple[str, ...] = ()
    is_joined: bool = True
    has_markers: bool = True


@dataclass(frozen=True)
class Cells:
    """A heat map: for each column the edges, a tooltip, and a share from 0 to 1 for each row, the lowest first."""

    x_edges: tuple[float, ...]
    y_edges: tuple[float, ...]
    shares: tuple[tuple[float, ...], ...]
    tips: tuple[str, ...]


@dataclass(frozen=True)
class Rule:
    """An upright line that says when something happened."""

    x: float
    label: str


Mark: TypeAlias = Bars | Line | Cells | Rule


@dataclass(frozen=True)
class Panel:
    """Marks between two axes."""

    x: Axis
    y: Axis
    marks: tuple[Mark, ...]
    title: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture that can be drawn in two ways: as SVG, and with matplotlib.

    The functions of `goctconv.report.plots` make it. In a notebook it shows itself.

    Attributes:
        title: The heading.
        description: What it shows, for those who cannot see it.
        series: What is compared, by name.
        panels: From top to bottom.
        backdrop: The name of what the series are compared with; empty if there is none.

    Example:
        >>> from goctconv.report import plots
        >>> picture = plots.learning_curves({"mine": {"epoch": [1, 2, 3], "loss": [0.7, 0.4, 0.3]}}, ["loss"])
        >>> picture.title
        'Learning curves'
        >>> picture.to_svg()[:4]
        '<svg'
    """

    title: str
    description: str
    series: tuple[str, ...]
    panels: tuple[Panel, ...]
    backdrop: str = ""

    def to_svg(self, *, standalone: bool = False) -> str:
        """Return an ``svg`` element to put into a page, without scripts, and nothing loaded from elsewhere.

        It takes the page's text colour, is as wide as there is room up to a limit, and tells values as tooltips.

        Args:
            standalone: Whether to make a file of its own instead, with a background; it then follows the reader's dark
                or light mode by itself.
        """
        from ._svg import render_svg  # noqa: PLC0415  # the renderers know the picture

        return render_svg(self, standalone=standalone)

    def to_figure(self) -> Any:
        """Return a `matplotlib.figure.Figure` with an axes for each panel; pyplot is not touched.

        Raises:
            ImportError: matplotlib is not installed.
        """
        from ._figure import render_figure  # noqa: PLC0415  # the same

        return render_figure(self)

    def save(self, path: str | Path) -> None:
        """Write the picture: as ``.svg``, or with matplotlib as ``.png``, ``.pdf`` and whatever else that knows.

        Raises:
            ImportError: matplotlib is needed and not installed.
            ValueError: The name has an ending that is unknown, or none.
        """
        path = Path(path)
        if path.suffix.lower() == ".svg":
            path.write_text(self.to_svg(standalone=True) + "\n", encoding="utf-8")
            return
        figure = self.to_figure()
        known = figure.canvas.get_supported_filetypes()
        if path.suffix.lower()[1:] not in known:
            raise ValueError(f"{path}: the name must end in .svg, or one of .{', .'.join(sorted(known))}")
        figure.savefig(path, dpi=150)

    def _repr_html_(self) -> str:
        return self.to_svg()


def matplotlib_figure() -> Callable[..., Any]:
    """Return matplotlib's class Figure.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        # A Figure of its own, without pyplot: no state of the process changes, and no display is needed.
        figure: Callable[..., Any] = importlib.import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise ImportError(
            "this picture needs matplotlib: pip install 'goctconv[plots]'; to_svg() and save('picture.svg') do not"
        ) from error
    return figure
