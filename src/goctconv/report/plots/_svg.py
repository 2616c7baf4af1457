"""A picture as SVG: headings, legend, panels one below the other."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from ._axes import Axis
from ._markup import element, escaped, number, text
from ._picture import BACKDROP, LEVELS, Bars, Cells, Line, Mark, Panel, Picture, Rule
from ._style import HATCHES, LARGEST, MARKERS, STANDALONE_STYLE, STYLE, look_of
from ._svg_marks import Plot, bar, dash, draw, shade
from ._text import shorten, width_of

WIDTH = 360.0  # with it, letters are large enough on a phone, and not too large on a desktop
_HEIGHT = 155.0  # of a panel's plot
_RIGHT = 10.0
_TICK = 11.0  # font size
_LONGEST_NAME = 36  # characters
_LONGEST_TICK = 20
_BOLD = 1.12  # how much wider bold letters are


def render_svg(picture: Picture, *, standalone: bool) -> str:
    """Return the ``svg`` element."""
    key = "g" + hashlib.sha256(repr(picture).encode(errors="replace")).hexdigest()[:8]
    y, parts = 0.0, []
    for line in _wrapped(picture.title, 13.5):
        y += 18
        parts.append(text(line, 2.0, y, class_="t"))
    y = _legend(picture, key, y + 8, parts)
    for panel in picture.panels:
        y = _panel(panel, key, y + 6, parts)
    style = STYLE + (STANDALONE_STYLE if standalone else "")
    patterns = "".join(_patterns(picture, key))
    head = [
        element("title", escaped(picture.title), id=f"{key}t"),
        element("desc", escaped(picture.description), id=f"{key}d"),
        element("style", style),
        element("defs", patterns) if patterns else "",
        element("rect", class_="p", x=-8.0, y=0.0, width=WIDTH + 16, height=y + 8) if standalone else "",
    ]
    left, width = (-8.0, WIDTH + 16) if standalone else (0.0, WIDTH)
    # What shows files, an <img> above all, has to know how large they are meant to be.
    size = {"width": LARGEST, "height": round(LARGEST * (y + 8) / width)} if standalone else {}
    return element(
        "svg",
        "\n".join(part for part in (*head, *parts) if part),
        xmlns="http://www.w3.org/2000/svg",
        class_="goctconv-picture",
        viewBox=f"{number(left)} 0 {number(width)} {number(y + 8)}",
        role="img",
        **size,
        aria_labelledby=f"{key}t {key}d",
    )


def _wrapped(title: str, size: float) -> Iterator[str]:
    """Yield the lines of a heading."""
    line = ""
    for word in shorten(title, 160).split(" "):
        longer = f"{line} {word}".strip()
        if line and _BOLD * width_of(longer, size) > WIDTH:
            yield line
            longer = word
        line = longer
    yield shorten(line, int(WIDTH / width_of("0", _BOLD * size)))


def _patterns(picture: Picture, key: str) -> Iterator[str]:
    """Yield the hatching of the series that have bars."""
    series = {mark.series for panel in picture.panels for mark in panel.marks if isinstance(mark, Bars)}
    for one in sorted(series - {BACKDROP}):
        strokes = HATCHES[look_of(one).hatch][0]
        if strokes:
            tile = element("rect", class_="w", width=6.0, height=6.0) + element("path", class_="l", d=strokes)
            yield element(
                "pattern", tile, id=f"{key}h{one}", class_=f"c{look_of(one).color}", width=6.0, height=6.0,
                patternUnits="userSpaceOnUse",
            )  # fmt: skip


def _legend(picture: Picture, key: str, y: float, parts: list[str]) -> float:
    """Draw what the series are, in as many rows as they need; return where the picture goes on."""
    marks = [mark for panel in picture.panels for mark in panel.marks]
    entries = []
    if picture.backdrop:
        entries.append((picture.backdrop, element("rect", class_="f cb", x=0.0, y=-9.0, width=14.0, height=10.0)))
    if len(picture.series) > 1 or picture.backdrop:
        entries += [(name, _sample(series, marks, key)) for series, name in enumerate(picture.series)]
    if any(isinstance(mark, Cells) for mark in marks):
        entries += [(f"≤ {level:.0%}", _shade(index)) for index, level in enumerate(LEVELS)]
    x = 2.0
    y += 12 if entries else 0
    for name, sample in entries:
        name = shorten(name, _LONGEST_NAME)  # noqa: PLW2901  # nothing else needs the long one
        width = 24 + width_of(name, 12) + 14
        if x > 2 and x + width - 14 > WIDTH:
            x, y = 2.0, y + 18
        parts.append(element("g", sample + text(name, 22.0, 0.0), transform=f"translate({number(x)} {number(y)})"))
        x += width
    return y + (8 if entries else 0)


def _sample(series: int, marks: list[Mark], key: str) -> str:
    look = look_of(series)
    own = [mark for mark in marks if isinstance(mark, Bars | Line) and mark.series == series]
    if any(isinstance(mark, Bars) for mark in own):
        return bar(series, key, x=0.0, y=-9.0, width=14.0, height=10.0)
    color = f"c{look.color}"
    lines = [mark for mark in own if isinstance(mark, Line)]
    line = element("path", class_=f"l {color}", d="M0 -4H18", **dash(series)) if lines and lines[0].is_joined else ""
    has_markers = any(mark.has_markers for mark in lines)
    return line + (
        element("path", class_=f"f {color}", d=MARKERS[look.marker][0], transform="translate(9 -4)")
        if has_markers
        else ""
    )


def _shade(index: int) -> str:
    return element("rect", class_="f c0", x=0.0, y=-9.0, width=14.0, height=10.0, fill_opacity=shade(index))


def _panel(panel: Panel, key: str, y: float, parts: list[str]) -> float:
    """Draw a panel below ``y``; return where the picture goes on."""
    heading = f"{panel.title}: {panel.y.label}" if panel.title and panel.y.label else panel.title or panel.y.label
    if heading:
        y += 14
        parts.append(text(shorten(heading, 64), 2.0, y, class_="h" if panel.title else "q"))
    ruled = any(isinstance(mark, Rule) for mark in panel.marks)
    top = y + (22 if ruled else 10)
    left = 8 + max((width_of(label, _TICK) for _, label in panel.y.ticks), default=0)
    plot = Plot(panel, left, top, WIDTH - _RIGHT, top + _HEIGHT)
    parts += _value_ticks(panel.y, plot)
    bottom = _bottom_ticks(panel.x, plot, parts)
    parts += draw(plot, key)
    parts.append(element("path", class_="a", d=f"M{number(plot.left)} {number(plot.bottom)}H{number(plot.right)}"))
    if panel.x.label:
        bottom += 15
        middle = (plot.left + plot.right) / 2
        parts.append(text(shorten(panel.x.label, 60), middle, bottom, class_="q", text_anchor="middle"))
    return bottom + 8


def _value_ticks(axis: Axis, plot: Plot) -> Iterator[str]:
    for value, label in axis.ticks:
        y = plot.y(value)
        yield element("path", class_="g", d=f"M{number(plot.left)} {number(y)}H{number(plot.right)}")
        yield text(label, plot.left - 5, y + 3.8, class_="k", text_anchor="end")


def _bottom_ticks(axis: Axis, plot: Plot, parts: list[str]) -> float:
    """Draw the labels below a plot, upright where they do not fit side by side; return how far down they reach."""
    room = (plot.right - plot.left) / max(1.0, (axis.limits[1] - axis.limits[0]) if axis.is_categorical else 1)
    labels = [(value, shorten(label, _LONGEST_TICK)) for value, label in axis.ticks]
    widest = max((width_of(label, _TICK) for _, label in labels), default=0)
    upright = axis.is_categorical and widest + 3 > room and widest > 24
    step = 1
    if axis.is_categorical:
        while room * step < (_TICK + 1 if upright else widest + 3):
            step += 1
    deepest = max((width_of(label, _TICK) for _, label in labels[::step]), default=0)
    last_end = -1e9
    for value, label in labels[::step]:
        x = plot.x(value)
        if upright:
            y = plot.bottom + 6
            turn = f"translate({number(x + 4)} {number(y)}) rotate(-90)"
            parts.append(text(label, 0.0, 0.0, class_="k", text_anchor="end", transform=turn))
            continue
        half = width_of(label, _TICK) / 2
        x = min(x, plot.right + _RIGHT - half)
        if x - half > last_end + 3:
            parts.append(text(label, x, plot.bottom + 15, class_="k", text_anchor="middle"))
            last_end = x + half
    return plot.bottom + (10 + deepest if upright else 17)
