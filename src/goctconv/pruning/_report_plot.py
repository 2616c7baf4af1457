"""The report as a picture: the channels of every layer."""

from __future__ import annotations

import importlib
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._report import PruningReport

_COLORS = {"stay, live": "#2f6fb0", "masked, but stay": "#d98a1f", "removed": "#cdd3da"}
_TALLEST = 60  # inches
_DPI = 120


def render_png(report: PruningReport) -> bytes:
    """Return the bytes of a PNG with one bar for each layer, the first layer at the top.

    Raises:
        ImportError: matplotlib is not installed.
    """
    try:
        # A Figure of its own, without pyplot: no state of the process changes, and no display is needed.
        make_figure = importlib.import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise ImportError("the picture needs matplotlib: pip install 'goctconv[plots]'") from error
    layers = report.layers
    figure = make_figure(figsize=(8, min(1.4 + 0.19 * len(layers), _TALLEST)), layout="constrained")
    axes = figure.subplots()
    rows = range(len(layers))
    held = [len(layer.held) for layer in layers.values()]
    live = [layer.channels - layer.masked for layer in layers.values()]
    removed = [layer.removed for layer in layers.values()]
    lefts = ([0] * len(layers), live, [a + b for a, b in zip(live, held, strict=True)])
    for (label, color), left, widths in zip(_COLORS.items(), lefts, (live, held, removed), strict=True):
        axes.barh(rows, widths, left=left, height=0.8, color=color, label=label)
    axes.set_yticks(rows, [name.replace("$", r"\$") for name in layers], fontsize=7)  # $ would begin a formula
    axes.set_ylim(len(layers) - 0.4, -0.6)
    axes.set_xlabel("channels")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle(report.summary(), fontsize=10)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DPI)
    return png.getvalue()
