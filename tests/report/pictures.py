"""Pictures of every kind, and what reads the data that they show."""

from __future__ import annotations

import functools
import math
from xml.etree import ElementTree as ET

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import PathPatch

from goctconv.report import (
    Picture,
    channel_widths,
    complexity,
    gamma_distribution,
    gamma_over_time,
    learning_curves,
    output_deviation,
)

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = '"><script>alert(1)</script> & \x00\ud800 ]]> $x^2$ #0068a8 <g id="figure_1"> 0.12345'
ROWS = [{"epoch": epoch, "loss": 1 / epoch, "mae": None if epoch % 2 else 0.2 / epoch} for epoch in range(1, 8)]
FADING = [np.array([1.0, 0.9, 0.5 * 10.0**-time, 0.0]) for time in range(5)]


def every_picture(name: str = "mine") -> dict[str, Picture]:
    """Return a picture of each kind; ``name`` is what its first series is called."""
    return {
        "output_deviation": output_deviation({name: {name: 0.5, "b": 0.1}, "other": {"b": 0.2}}, title=name),
        "gamma_distribution": gamma_distribution({name: [0, 1e-21, 0.5], "other": [0.7]}, threshold=1e-20),
        "gamma_over_time": gamma_over_time(FADING, events={name: 3}, title=name),
        "quantiles": gamma_over_time(FADING, kind="quantiles", x=name),
        "channel_widths": channel_widths({name: {"a": 8, name: 5}, "other": {"a": 3}}),
        "complexity": complexity({name: [(1e5, 0.9, name), (2e6, 0.91)], "other": [(3e5, math.nan)]}),
        "learning_curves": learning_curves({name: ROWS, "other": {"loss": [0.5]}}, events={name: 2}, title=name),
    }


def axes_of(picture: Picture) -> list[Axes]:
    """Return the axes of a picture's panels, laid out."""
    figure = picture.to_figure()
    figure.draw_without_rendering()
    return figure.axes


def curves(picture: Picture) -> list[tuple[list[float], list[float]]]:
    """Return x and y of every line of every panel."""
    lines = [line for axes in axes_of(picture) for line in axes.lines if line.get_transform() == axes.transData]
    return [tuple(np.asarray(values, dtype=float).tolist() for values in line.get_data()) for line in lines]


def rules(picture: Picture) -> list[tuple[float, str]]:
    """Return where upright lines stand, and their labels."""
    found = []
    for axes in axes_of(picture):
        upright = [line.get_xdata()[0] for line in axes.lines if line.get_transform() != axes.transData]
        found += zip(upright, (text.get_text() for text in axes.texts), strict=True)
    return found


def bars(picture: Picture) -> list[list[list[tuple[float, float, float]]]]:
    """Return left and right ends and heights of the bars of every series of every panel."""
    return [
        [
            [(bar.get_x(), bar.get_x() + bar.get_width(), bar.get_height()) for bar in series]
            for series in axes.containers
        ]
        for axes in axes_of(picture)
    ]


def heights(picture: Picture) -> list[list[list[float]]]:
    """Return heights of the bars of every series of every panel."""
    return [[[height for _, _, height in series] for series in panel] for panel in bars(picture)]


def cells(picture: Picture) -> dict[float, int]:
    """Return how many cells each opacity has."""
    (axes,) = axes_of(picture)
    found = [patch for patch in axes.patches if isinstance(patch, PathPatch)]
    return {patch.get_alpha(): len(patch.get_path().vertices) // 5 for patch in found}


def ticks(axes: Axes, axis: str) -> list[str]:
    """Return the labels of an axis."""
    return [label.get_text() for label in getattr(axes, f"get_{axis}ticklabels")()]


@functools.cache
def svg_of(picture: Picture, *, standalone: bool = False) -> str:
    """Return the picture's SVG; it is drawn once."""
    return picture.to_svg(standalone=standalone)


def parsed(picture: Picture, *, standalone: bool = False) -> ET.Element:
    """Return the picture's SVG as a tree."""
    return ET.fromstring(svg_of(picture, standalone=standalone))  # noqa: S314  # our own


def tips(picture: Picture) -> list[str]:
    """Return the tooltips of a picture: titles inside of what is drawn."""
    return [str(title.text) for part in parsed(picture) for title in part.findall(f"{SVG}title")]


def texts(picture: Picture) -> list[str]:
    """Return what is written in a picture."""
    return [str(text.text) for text in parsed(picture).iter(f"{SVG}text")]
