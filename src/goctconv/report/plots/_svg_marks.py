"""The marks of a panel as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from ._markup import element, number, text, tip
from ._picture import BACKDROP, LEVELS, Bars, Cells, Line, Panel, Rule
from ._style import DASHES, HATCHES, MARKERS, look_of
from ._text import shorten, width_of

_MOST_MARKERS = 40  # of a line
_MOST_LABEL = 24  # characters
_LABEL = 11.0  # font size


class Plot(NamedTuple):
    """A panel, and where it is drawn."""

    panel: Panel
    left: float
    top: float
    right: float
    bottom: float

    def x(self, value: float) -> float:
        """Return the coordinate of a value."""
        return self.left + self.panel.x.share(value) * (self.right - self.left)

    def y(self, value: float) -> float:
        """Return the coordinate of a value."""
        return self.bottom - self.panel.y.share(value) * (self.bottom - self.top)

    def holds(self, box: tuple[float, float, float, float]) -> bool:
        """Whether a box (left, top, right, bottom) is inside, or nearly."""
        left, top, right, bottom = box
        return self.left <= left and right <= self.right + 8 and self.top - 6 <= top and bottom <= self.bottom


def draw(plot: Plot, key: str) -> list[str]:
    """Return the marks of a panel, labels last: what is drawn later covers what was drawn before."""
    parts: list[str] = []
    for mark in plot.panel.marks:
        if isinstance(mark, Bars):
            parts += _bars(mark, plot, key)
        elif isinstance(mark, Cells):
            parts += _cells(mark, plot)
        elif isinstance(mark, Line):
            parts += _line(mark, plot)
        else:
            parts += _rule(mark, plot)
    parts += (text(one.text, plot.x(one.x) + one.dx, plot.y(one.y) + one.dy, class_="k") for one in place_labels(plot))
    return parts


def bar(series: int, key: str, content: str = "", **where: float) -> str:
    """Return a rectangle in the manner of a series, around ``content``."""
    if series == BACKDROP:
        return element("rect", content, class_="f cb", **where)
    look = look_of(series)
    if not HATCHES[look.hatch][0]:
        return element("rect", content, class_=f"f c{look.color}", **where)
    return element("rect", content, class_=f"o c{look.color}", fill=f"url(#{key}h{series})", **where)


def dash(series: int) -> dict[str, object]:
    """Return the attribute that makes a line's dashes."""
    pattern = DASHES[look_of(series).dash]
    return {"stroke_dasharray": " ".join(map(str, pattern))} if pattern else {}


def shade(level: int) -> float:
    """Return the opacity of a level of cells."""
    return (0.2, 0.35, 0.53, 0.75, 1.0)[level]


def _bars(mark: Bars, plot: Plot, key: str) -> Iterator[str]:
    for left, right, height, words in zip(mark.left, mark.right, mark.height, mark.tips, strict=True):
        if math.isnan(height):
            continue
        x, top = plot.x(left), plot.y(height)
        width = max(plot.x(right) - x, 0.3)
        yield bar(mark.series, key, tip(words), x=x, y=top, width=width, height=plot.bottom - top)


def _cells(mark: Cells, plot: Plot) -> Iterator[str]:
    """Yield a path for each shade, and for each column something to point at."""
    xs = [plot.x(value) for value in mark.x_edges]
    ys = [plot.y(value) for value in mark.y_edges]
    paths: list[list[str]] = [[] for _ in LEVELS]
    for column, shares in enumerate(mark.shares):
        for row, share in enumerate(shares):
            if share > 0:
                level = next(level for level, limit in enumerate(LEVELS) if share <= limit)
                left, right = number(xs[column]), number(xs[column + 1])  # the same of both neighbours: no seam
                paths[level].append(f"M{left} {number(ys[row])}V{number(ys[row + 1])}H{right}V{number(ys[row])}z")
    for level, shapes in enumerate(paths):
        if shapes:
            yield element(
                "path", class_="f c0", d="".join(shapes), fill_opacity=shade(level), shape_rendering="crispEdges"
            )
    for column, words in enumerate(mark.tips):
        x, width = xs[column], xs[column + 1] - xs[column]
        yield element("rect", tip(words), class_="n", x=x, y=plot.top, width=width, height=plot.bottom - plot.top)


def _line(mark: Line, plot: Plot) -> Iterator[str]:
    look = look_of(mark.series)
    points = [
        (plot.x(x), plot.y(y), words)
        for x, y, words in zip(mark.x, mark.y, mark.tips, strict=True)
        if math.isfinite(x) and math.isfinite(y)
    ]
    if mark.is_joined:
        path = _path(mark, plot)
        yield element("path", class_=f"l c{look.color}", d=path, **dash(mark.series)) if path else ""
    if not mark.has_markers:
        return
    step = max(1, math.ceil(len(points) / _MOST_MARKERS)) if mark.is_joined else 1
    for index, (x, y, words) in enumerate(points):
        if index % step == 0 or index == len(points) - 1:
            place = f"translate({number(x)} {number(y)})"
            yield element("path", tip(words), class_=f"f c{look.color}", d=MARKERS[look.marker][0], transform=place)


def _path(mark: Line, plot: Plot) -> str:
    """Return the path through the points, interrupted where a value is missing."""
    steps, is_open = [], False
    for x, y in zip(mark.x, mark.y, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            steps.append(f"{'L' if is_open else 'M'}{number(plot.x(x))} {number(plot.y(y))}")
            is_open = True
        else:
            is_open = False
    return "".join(steps) if any(step[0] == "L" for step in steps) else ""


def _rule(mark: Rule, plot: Plot) -> Iterator[str]:
    x = plot.x(mark.x)
    yield element("path", class_="r", d=f"M{number(x)} {number(plot.top - 4)}V{number(plot.bottom)}")
    label = shorten(mark.label, _MOST_LABEL)
    half = width_of(label, _LABEL) / 2
    yield text(label, min(max(x, half), plot.right - half), plot.top - 8, class_="k", text_anchor="middle")


class PlacedLabel(NamedTuple):
    """A label beside the point x, y: ``dx`` to the right of it its left end, ``dy`` below it its base line."""

    text: str
    x: float
    y: float
    dx: float
    dy: float


def place_labels(plot: Plot) -> list[PlacedLabel]:
    """Return the labels for which there is room beside their points; tooltips tell the others."""
    lines = [mark for mark in plot.panel.marks if isinstance(mark, Line)]
    taken = [(x - 3, y - 3, x + 3, y + 3) for line in lines for x, y in _along(line, plot)]
    placed = []
    for line in lines:
        for x, y, label in zip(line.x, line.y, line.labels or [""] * len(line.x), strict=True):
            words = shorten(label, _MOST_LABEL)
            width = width_of(words, _LABEL)
            left_of = -6 - width
            sides = ((6, 4), (left_of, 4), (-width / 2, -7), (-width / 2, 15))
            corners = ((5, 14), (left_of, -4), (5, -4), (left_of, 14))
            for dx, dy in (*sides, *corners) if words else ():
                left, base = plot.x(x) + dx, plot.y(y) + dy
                box = (left, base - 9, left + width, base + 2)
                if plot.holds(box) and not any(_overlap(box, other) for other in taken):
                    taken.append(box)
                    placed.append(PlacedLabel(words, x, y, dx, dy))
                    break
    return placed


def _along(line: Line, plot: Plot) -> Iterator[tuple[float, float]]:
    """Yield the points of a line, and places between them."""
    points = [(plot.x(x), plot.y(y)) for x, y in zip(line.x, line.y, strict=True) if math.isfinite(x + y)]
    yield from points
    for (x, y), (to_x, to_y) in pairwise(points) if line.is_joined else ():
        steps = math.ceil(math.hypot(to_x - x, to_y - y) / 5)
        yield from ((x + (to_x - x) * step / steps, y + (to_y - y) * step / steps) for step in range(1, steps))


def _overlap(one: tuple[float, float, float, float], other: tuple[float, float, float, float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
