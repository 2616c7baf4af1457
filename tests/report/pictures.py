"""Pictures of every kind, and what reads them."""

from __future__ import annotations

import math
from xml.etree import ElementTree as ET

import numpy as np

from goctconv.report import plots

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '"><script>alert(1)</script> & \x00\ud800 ]]> $x^2$'
ROWS = [{"epoch": epoch, "loss": 1 / epoch, "mae": None if epoch % 2 else 0.2 / epoch} for epoch in range(1, 8)]
FADING = [np.array([1.0, 0.9, 0.5 * 10.0**-time, 0.0]) for time in range(5)]


def every_picture(name: str = "mine") -> dict[str, plots.Picture]:
    """Return a picture of each kind; ``name`` is what its first series is called."""
    return {
        "output_deviation": plots.output_deviation({name: {name: 0.5, "b": 0.1}, "other": {"b": 0.2}}, title=name),
        "gamma_distribution": plots.gamma_distribution({name: [0, 1e-21, 0.5], "other": [0.7]}, threshold=1e-20),
        "gamma_over_time": plots.gamma_over_time(FADING, events={name: 3}, title=name),
        "quantiles": plots.gamma_over_time(FADING, kind="quantiles", x=name),
        "channel_widths": plots.channel_widths({name: {"a": 8, name: 5}, "other": {"a": 3}}),
        "complexity": plots.complexity({name: [(1e5, 0.9, name), (2e6, 0.91)], "other": [(3e5, math.nan)]}),
        "learning_curves": plots.learning_curves({name: ROWS, "other": {"loss": [0.5]}}, events={name: 2}, title=name),
    }


def parsed(picture: plots.Picture, *, standalone: bool = False) -> ET.Element:
    """Return the picture's SVG as a tree."""
    return ET.fromstring(picture.to_svg(standalone=standalone))  # noqa: S314  # our own


def tips(picture: plots.Picture) -> list[str]:
    """Return the tooltips of a picture: titles inside of what is drawn."""
    return [str(title.text) for part in parsed(picture) for title in part.findall(f"{SVG}title")]


def texts(picture: plots.Picture) -> list[str]:
    """Return what is written in a picture."""
    return [str(text.text) for text in parsed(picture).iter(f"{SVG}text")]
