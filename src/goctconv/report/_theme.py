"""Theme of pictures and pages: colours in light and dark, fonts, text, and matplotlib's settings.

The colours of series are those of Okabe and Ito, which people with any colour vision can tell apart, made darker on
light pages and lighter on dark ones.
"""

from __future__ import annotations

import html
import math
import re
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERIES = ("#0068a8", "#c4500c", "#00795a", "#a34486", "#7d6608", "#3f4a56")
BACKDROP, HELD, INK, SOFT, LINE, PAPER = "#c9ced4", "#d98a1f", "#1c1e21", "#5f6670", "#dfe2e6", "#ffffff"
_COLORS = {  # CSS variables: in light and in dark; matplotlib draws in light, and SVG refers to the variables
    **{f"series-{index}": (color, dark) for index, (color, dark) in enumerate(
        zip(SERIES, ("#5db5f2", "#ff9a5c", "#41d1a5", "#e79fcf", "#ecd35f", "#c3ccd6"), strict=True))},
    "backdrop": (BACKDROP, "#4b525a"),
    "held": (HELD, "#e0a04a"),
    "ink": (INK, "#e8eaed"),
    "soft": (SOFT, "#9aa2ad"),
    "line": (LINE, "#32373d"),
    "card": (PAPER, "#1d2024"),
    "page": ("#f6f7f8", "#141619"),
    "note": ("#fff4d6", "#3a3010"),
    "note-ink": ("#5c4400", "#ffe3a1"),
}  # fmt: skip
_VARIABLES = {light: f"var(--{name})" for name, (light, _) in _COLORS.items()}
_DASHES = ((), (6, 3), (2, 2.5), (8, 2.5, 2, 2.5), (4, 2))
_MARKERS = ("o", "s", "^", "D", "v", "P", "*")
_HATCHES = ("", "////", "\\\\\\\\", "----", "||||", "++++")

WIDTH, FONT_SIZE = 360, 11.0  # points; a picture is as wide as a phone, where the letters have to be large enough
_SETTINGS: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib, so that pictures are alike everywhere
    "font.size": FONT_SIZE,
    "svg.fonttype": "none",  # text stays text
    "text.parse_math": False,  # a $ in a name begins no formula
    "text.color": INK,
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), SOFT),
    **dict.fromkeys(("axes.labelsize", "axes.titlesize"), FONT_SIZE),
    **dict.fromkeys(("axes.spines.left", "axes.spines.right", "axes.spines.top"), False),
    **dict.fromkeys(("ytick.major.size", "xtick.minor.size", "ytick.minor.size"), 0.0),
    "grid.color": LINE,
    "figure.facecolor": PAPER,
    "axes.facecolor": "none",
    "hatch.linewidth": 1.0,
}


BACKDROP_LOOK, HELD_LOOK = -1, -2  # in place of a series


class Look(NamedTuple):
    """Look of a series, in matplotlib's words; series differ without colour too."""

    color: str
    dash: tuple[float, ...]
    marker: str
    hatch: str


def look_of(series: int) -> Look:
    """Return how a series is drawn; thousands of them differ in some way."""
    if series < 0:
        return Look(BACKDROP if series == BACKDROP_LOOK else HELD, (), "", "")
    color, dash = SERIES[series % len(SERIES)], _DASHES[series % len(_DASHES)]
    return Look(color, dash, _MARKERS[series % len(_MARKERS)], _HATCHES[series % len(_HATCHES)])


def css_variables(selector: str) -> str:
    """Return the colours as CSS variables of what a selector matches, in light and in dark mode."""
    light, dark = ("".join(f"--{name}:{both[mode]};" for name, both in _COLORS.items()) for mode in (0, 1))
    return f"{selector}{{{light}}}@media(prefers-color-scheme:dark){{{selector}{{{dark}}}}}"


def matplotlib_settings(salt: str = "goctconv") -> AbstractContextManager[None]:
    """Return a context in which matplotlib draws in this theme; a picture's salt makes its identifiers unique."""
    try:
        import matplotlib as mpl  # noqa: PLC0415  # an extra, which loads slowly
    except ImportError as error:
        raise ImportError("pictures need matplotlib: pip install 'goctconv[plots]'") from error
    settings = {**_SETTINGS, "svg.hashsalt": salt}
    return mpl.rc_context(settings)


def new_figure(width: float, height: float) -> Figure:
    """Return a figure of a size in points, without pyplot: no state of the process changes, no display is needed."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # as above

    return Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")


_REMOVED = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")  # what stands between tags is text of the user
_IN_TAGS = (
    (re.compile(r"\s+"), " "),
    (re.compile(r'^<g id="[^"]*"'), "<g"),  # the same in every picture, so they would clash on a page
    (re.compile(r' transform="rotate\(-?0 [^"]*"'), ""),
    (re.compile(r"\bxlink:href\b"), "href"),
    (re.compile(r"'DejaVu Sans'[^;\"]*"), "system-ui,sans-serif"),
    (re.compile(r"(\.\d\d)\d+"), r"\1"),  # a hundredth of a point cannot be seen
    (re.compile("|".join(_VARIABLES)), lambda found: _VARIABLES[found[0]]),
)
_SVG_STYLE = (
    f".goctconv-picture{{display:block;width:100%;max-width:560px;height:auto}}{css_variables('.goctconv-picture')}"
    ".goctconv-picture *{stroke-linejoin:round;stroke-linecap:butt}"
    ".goctconv-picture .tip{fill:transparent}.goctconv-picture .tip:hover{fill:var(--ink);fill-opacity:.12}"
)
_FILE_STYLE = ".goctconv-picture{background:var(--card)}"


def themed_svg(drawn: str, title: str, description: str, key: str, tips: str, *, standalone: bool) -> str:
    """Return an SVG, drawn with `matplotlib_settings`, as an element that follows light and dark mode.

    Title and description tell those who cannot see it what it shows; the key tells it from other pictures on a page;
    tips are elements over it that show tooltips. ``standalone`` makes it a file, with a background and a size.
    """
    body = _TAG.sub(lambda found: _themed_tag(found[0]), _REMOVED.sub("", drawn))
    start, content = re.sub(r">\s+<", "><", body).strip().removesuffix("</svg>").split(">", 1)
    width, height = re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', start)[0]
    size = f'width="560" height="{560 * float(height) / float(width):.0f}" ' if standalone else ""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="goctconv-picture" viewBox="0 0 {width} {height}" {size}'
        f'role="img" aria-labelledby="{key}t {key}d"><title id="{key}t">{escaped(title)}</title>'
        f'<desc id="{key}d">{escaped(description)}</desc>'
        f"<style>{_SVG_STYLE}{_FILE_STYLE if standalone else ''}</style>{content}{tips}</svg>"
    )


def _themed_tag(tag: str) -> str:
    for pattern, replacement in _IN_TAGS:
        tag = pattern.sub(replacement, tag)
    return tag


_SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def readable(text: str) -> str:
    """Return a text without the characters that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)


def escaped(text: str) -> str:
    """Return a text as it stands between tags, or in an attribute."""
    return html.escape(readable(text))


def shorten(text: str, limit: int) -> str:
    """Return a text of at most ``limit`` characters: its beginning and its end.

    Example:
        >>> shorten("backbone.layer4.2.bn3", 14)
        'backbon….2.bn3'
    """
    text = readable(" ".join(text.split()))
    if len(text) <= limit:
        return text
    end = (limit - 1) // 2
    return f"{text[: limit - 1 - end]}…{text[len(text) - end :]}"


def compact(value: float) -> str:
    """Return a number in few characters.

    Example:
        >>> [compact(value) for value in (210985, 0.0758, 1.5e9, 3e-21, -2, 0)]
        ['211k', '0.0758', '1.5G', '3e-21', '-2', '0']
    """
    if not math.isfinite(value):
        return str(value)
    for unit, suffix in _SUFFIXES:
        if abs(value) >= 0.9995 * unit and (unit > 1e3 or abs(value) >= 1e4):
            return f"{value / unit:.3g}{suffix}" if abs(value) < 999.5 * unit else f"{value:.2e}"
    if value and abs(value) < 1e-4:
        return re.sub(r"e([+-])0*(\d)", r"e\1\2", f"{value:.3g}")
    return f"{value:.0f}" if value == round(value) else f"{value:.4g}"
