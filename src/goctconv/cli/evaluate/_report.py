"""``goctconv evaluate``: the table, the JSON, the CSV and the picture."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..._version import __version__
from ...report import learning_curves
from ...saliency.metrics import METRICS, SaliencyScores
from .._output import write_file, writing
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


def write_plot(path: Path, results: Sequence[Result]) -> None:
    """Draw precision by recall, and F by threshold, of each data set."""
    curves = {
        f"{result.job.data.name}: max F {max(result.scores.curves.f):.4f}": result.scores.curves for result in results
    }
    title = f"Precision, recall and F, protocol {results[0].scores.protocol.name}"
    picture = learning_curves(curves, ("precision", "f"), x=("recall", "thresholds"), title=title)
    with writing(path):
        picture.save(path)
