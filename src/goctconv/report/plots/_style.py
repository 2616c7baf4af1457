"""How series look: told apart by colour, and as well by hatching, dashes and markers.

The colours are those of Okabe and Ito, which people with any colour vision can tell apart, made darker on light pages
and lighter on dark ones.
"""

from __future__ import annotations

from typing import NamedTuple


class Look(NamedTuple):
    """How a series is drawn: a number of each kind."""

    color: int
    dash: int
    marker: int
    hatch: int


LIGHT = ("#0068a8", "#c4500c", "#00795a", "#a34486", "#7d6608", "#3f4a56")
DARK = ("#5db5f2", "#ff9a5c", "#41d1a5", "#e79fcf", "#ecd35f", "#c3ccd6")
LIGHT_BACKDROP, DARK_BACKDROP = "#c9ced4", "#4b525a"
LIGHT_INK, DARK_INK = "#1c1e21", "#e8eaed"
LIGHT_PAPER, DARK_PAPER = "#ffffff", "#17191c"

LARGEST = 560  # pixels: how wide a picture becomes where there is room

DASHES = ((), (6, 3), (2, 2.5), (8, 2.5, 2, 2.5), (4, 2))  # of lines, in units of the picture
MARKERS = (  # a path around 0, 0, and the name that matplotlib has for it
    ("M-3 0A3 3 0 1 0 3 0A3 3 0 1 0 -3 0Z", "o"),
    ("M-2.7 -2.7H2.7V2.7H-2.7Z", "s"),
    ("M0 -3.9L3.5 2.6H-3.5Z", "^"),
    ("M0 -3.9L3.9 0L0 3.9L-3.9 0Z", "D"),
    ("M0 3.9L3.5 -2.6H-3.5Z", "v"),
    ("M-1 -3.4H1V-1H3.4V1H1V3.4H-1V1H-3.4V-1H-1Z", "P"),
    ("M0 -4L1 -1.2L3.9 -1.2L1.6 .6L2.4 3.4L0 1.7L-2.4 3.4L-1.6 .6L-3.9 -1.2L-1 -1.2Z", "*"),
)
HATCHES = (  # strokes within a tile of 6 by 6 units, and the name that matplotlib has for them; the first is solid
    ("", ""),
    ("M-1 1L1 -1M-1 7L7 -1M5 7L7 5", "////"),
    ("M-1 -1L7 7M-1 5L1 7M5 -1L7 1", "\\\\\\\\"),
    ("M0 3H6", "----"),
    ("M3 0V6", "||||"),
    ("M0 3H6M3 0V6", "++++"),
)

STYLE = (
    f".goctconv-picture{{display:block;width:100%;height:auto;max-width:{LARGEST}px;"
    + "".join(f"--s{index}:{color};" for index, color in enumerate(LIGHT))
    + f"--sb:{LIGHT_BACKDROP};font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}}"
    "@media(prefers-color-scheme:dark){.goctconv-picture{"
    + "".join(f"--s{index}:{color};" for index, color in enumerate(DARK))
    + f"--sb:{DARK_BACKDROP}}}}}"
    ".goctconv-picture text{fill:currentColor}"
    ".goctconv-picture .t{font-size:13.5px;font-weight:600}"
    ".goctconv-picture .h{font-weight:600}"
    ".goctconv-picture .q{opacity:.75}"
    ".goctconv-picture .k{font-size:11px;opacity:.85}"
    ".goctconv-picture .g{stroke:currentColor;stroke-opacity:.14;fill:none}"
    ".goctconv-picture .a{stroke:currentColor;stroke-opacity:.55;fill:none}"
    ".goctconv-picture .r{stroke:currentColor;stroke-opacity:.7;stroke-dasharray:3 3;fill:none}"
    ".goctconv-picture .l{stroke:var(--c);fill:none;stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}"
    ".goctconv-picture .f{fill:var(--c)}"
    ".goctconv-picture .o{stroke:var(--c);stroke-width:.8}"
    ".goctconv-picture .w{fill:var(--c);fill-opacity:.22}"
    ".goctconv-picture .n{fill:transparent}"
    ".goctconv-picture .n:hover{fill:currentColor;fill-opacity:.12}"
    ".goctconv-picture .cb{--c:var(--sb)}"
    + "".join(f".goctconv-picture .c{index}{{--c:var(--s{index})}}" for index in range(len(LIGHT)))
)
STANDALONE_STYLE = (
    f".goctconv-picture{{color:{LIGHT_INK};width:{LARGEST}px;max-width:100%;--paper:{LIGHT_PAPER}}}"
    f"@media(prefers-color-scheme:dark){{.goctconv-picture{{color:{DARK_INK};--paper:{DARK_PAPER}}}}}"
    ".goctconv-picture .p{fill:var(--paper)}"
)


def look_of(series: int) -> Look:
    """Return how a series is drawn; thousands of series differ in some way."""
    return Look(series % len(LIGHT), series % len(DASHES), series % len(MARKERS), series % len(HATCHES))
