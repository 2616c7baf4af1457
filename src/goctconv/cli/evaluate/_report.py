"""``goctconv evaluate``: the table, the JSON, the CSV and the picture."""

import csv
import importlib
import importlib.util
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..._version import __version__
from ...saliency.metrics import METRICS, SaliencyScores
from .._command import CommandError
from .._output import write_file
from ._sources import Job


class Result(NamedTuple):
    """What was found about a data set."""

    job: Job
    scores: SaliencyScores
    failures: Sequence[str]


def render_table(results: Sequence[Result]) -> str:
    """Return the scores as text: a line per data set, and the protocol."""
    names = list(results[0].scores.scores())
    rows = [["data set", "images", *(METRICS[name] for name in names)]]
    for result in results:
        values = result.scores.scores().values()
        rows.append([result.job.data.name, str(result.scores.images), *(f"{value:.4f}" for value in values)])
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
    return "\n".join([*lines, f"protocol {results[0].scores.protocol}"])


def write_json(path: Path, results: Sequence[Result], model: dict[str, Any] | None) -> None:
    """Write everything that is known, the names of files without a partner included."""
    report = {
        "goctconv": __version__,
        "model": model,
        "data_sets": [
            {
                "name": result.job.data.name,
                "source": result.job.source,
                **result.scores.to_dict(),
                "missing": [str(path) for path in result.job.absent],
                "extra": [str(path) for path in result.job.data.lone_images],
                "failed": list(result.failures),
            }
            for result in results
        ],
    }
    write_file(path, json.dumps(report, indent=1).encode() + b"\n")


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Write the curves: a line per data set and threshold."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    _, *names = results[0].scores.curves.to_dict()
    writer.writerow(["data_set", "protocol", "threshold", *names])
    for result in results:
        for values in zip(*result.scores.curves.to_dict().values(), strict=True):
            writer.writerow([result.job.data.name, result.scores.protocol.name, *values])
    write_file(path, text.getvalue().encode())


def check_plots() -> None:
    """Find out whether pictures can be drawn, before the work begins.

    Raises:
        CommandError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise CommandError("--plot needs matplotlib: pip install goctconv[plots], or leave --plot out.")


def write_plot(path: Path, results: Sequence[Result]) -> None:
    """Draw recall against precision, and F against the threshold, of each data set."""
    # A Figure of its own, without pyplot: no state of the process changes, and no display is needed.
    figure = importlib.import_module("matplotlib.figure").Figure(figsize=(10, 4.6), layout="constrained")
    precision_recall, f = figure.subplots(1, 2)
    for result in results:
        name, curves = result.job.data.name, result.scores.curves
        precision_recall.plot(curves.recall, curves.precision, label=name)
        f.plot(curves.thresholds, curves.f, label=f"{name}: max {max(curves.f):.4f}")
    precision_recall.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1))
    f.set(xlabel="threshold", ylabel="F", xlim=(0, 255), ylim=(0, 1))
    for axes in (precision_recall, f):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.suptitle(f"protocol {results[0].scores.protocol}", fontsize=7)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=150)
    write_file(path, png.getvalue())
