"""``goctconv evaluate``: the run."""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from .._version import __version__
from ..report import evaluation_page, learning_curves
from ..saliency import DataSetError, ImageError, find_pairs
from ..saliency.data import DataSet, ImagePair, data_set_name, header_sizes, pair_folders, pair_maps
from ..saliency.inference import available_metrics, score_pairs
from ..saliency.metrics import METRICS, SaliencyMetrics, SaliencyScores
from ._command import CommandError
from ._model import choose_device, computing, input_size_or_own, load_trained_model
from ._output import Progress, check_picture, plural, progress, say, shorten, tell, write_file, writing


class _Job(NamedTuple):
    """A data set whose pairs are (map or photograph, mask), and where it came from."""

    source: str
    data: DataSet

    @property
    def absent(self) -> tuple[Path, ...]:
        """Masks that nothing can be compared with, and files of a list that do not exist."""
        return self.data.lone_masks + self.data.missing


class _Result(NamedTuple):
    """The scores of a data set, and messages about the images that are left out."""

    job: _Job
    scores: SaliencyScores | None
    failures: Sequence[str]


def run_evaluate(args: argparse.Namespace) -> int:
    """Print and write the metrics that the arguments ask for, and return the exit status."""
    metrics = _metrics(args)
    if args.plot is not None:
        check_picture()
    jobs = _find_jobs(args)
    model, device = (None, torch.device("cpu")) if args.predictions else _model(args)
    for job in jobs:
        _note(job, args)
    if not args.resize:
        _check_sizes(jobs)
    with progress(sum(len(job.data.pairs) for job in jobs), quiet=args.quiet) as shown, computing(args, device):
        scored = [_score(job, metrics, model, device, args, shown) for job in jobs]
    results = [result for result in scored if result.scores is not None]
    if not results:
        raise CommandError("no image could be evaluated")
    tell(_table(results))
    _write(results, args)
    return 1 if any(result.failures or result.job.absent for result in scored) else 0


def _metrics(args: argparse.Namespace) -> SaliencyMetrics:
    names = args.metrics.replace(" ", "").split(",") if args.metrics else available_metrics()
    if not args.metrics and len(names) < len(METRICS) and not args.quiet:
        say("goctconv: weighted F is left out: it needs scipy, pip install goctconv[eval]")
    try:
        return SaliencyMetrics(args.protocol, names)
    except ImportError as error:
        raise CommandError(str(error)) from error


def _model(args: argparse.Namespace) -> tuple[nn.Module, torch.device]:
    return load_trained_model(args), choose_device(args.device)


def _score(
    job: _Job,
    metrics: SaliencyMetrics,
    model: nn.Module | None,
    device: torch.device,
    args: argparse.Namespace,
    shown: Progress,
) -> _Result:
    """Compare the images of a data set, and show each that cannot be compared."""
    total = SaliencyMetrics(metrics.protocol, metrics.metrics)
    failures = []
    scored_pairs = score_pairs(
        job.data.pairs,
        metrics,
        model,
        size=input_size_or_own(args.size) or "own",
        batch_size=args.batch_size,
        workers=args.workers,
        device=device,
        resize=args.resize,
    )
    for scored in scored_pairs:
        shown.step()
        if scored.value is not None:
            total.merge(scored.value)
        if scored.error is not None:
            named = isinstance(scored.error, ImageError)
            kind = "" if named else f"{scored.source.image}: {type(scored.error).__name__} "
            failures.append(f"{kind}{scored.error}")
            shown.line(f"goctconv: {failures[-1]}")
    try:
        return _Result(job, total.compute() if total.images else None, failures)
    except ValueError as error:
        raise CommandError(f"{job.source}: {error}") from error


def _find_jobs(args: argparse.Namespace) -> list[_Job]:
    """Return the data sets that the arguments mean."""
    _check(args)
    try:
        if args.masks:
            images = args.predictions or args.images
            return [_Job(str(args.masks), pair_folders(images, args.masks, data_set_name(args.masks)))]
        jobs = _unique_names([_Job(source, find_pairs(source)) for source in args.datasets])
        if not args.predictions:
            return jobs
        return [
            _Job(source, pair_maps(data, _maps_of(args.predictions, data.name, alone=len(jobs) == 1)))
            for source, data in jobs
        ]
    except (DataSetError, OSError) as error:
        raise CommandError(*str(error).splitlines()) from error


def _check(args: argparse.Namespace) -> None:
    if args.predictions and (args.weights is not None or args.pretrained):
        raise CommandError("--predictions are maps that exist, --weights and --pretrained make them: give one of these")
    if bool(args.datasets) == bool(args.masks):
        raise CommandError(
            "say what to compare with: DATASET folders, or --masks DIR with --predictions DIR or --images DIR"
            + (", not both" if args.masks else "")
        )
    if args.masks and bool(args.predictions) == bool(args.images):
        raise CommandError("--masks DIR goes with --predictions DIR (maps) or with --images DIR (photographs)")
    if args.images and not args.masks:
        raise CommandError("--images DIR goes with --masks DIR; a DATASET has its own photographs")


def _unique_names(jobs: list[_Job]) -> list[_Job]:
    """Call data sets of the same name by what the user typed."""
    count = Counter(job.data.name for job in jobs)
    return [_Job(job.source, replace(job.data, name=job.source)) if count[job.data.name] > 1 else job for job in jobs]


def _maps_of(folder: Path, name: str, *, alone: bool) -> Path:
    if (folder / name).is_dir():
        return folder / name
    if alone:
        return folder
    raise CommandError(f"--predictions {folder}: there is no subfolder {name} in it, which this data set's maps need")


def _check_sizes(jobs: Iterable[_Job]) -> None:
    """Compare the sizes in the files' headers; what cannot be read is reported later."""
    different = [text for job in jobs for pair in job.data.pairs if (text := _compare_sizes(pair))]
    if different:
        raise CommandError(
            f"{plural(len(different), 'map')} of another size than the mask: {shorten(different, '; ')}: pass --resize "
            "to resize the maps to their masks"
        )


def _compare_sizes(pair: ImagePair) -> str | None:
    try:
        image, mask = header_sizes(pair)
    except ImageError:
        return None
    return None if image == mask else f"{pair.image} is {image[0]} x {image[1]}, its mask {mask[0]} x {mask[1]}"


def _note(job: _Job, args: argparse.Namespace) -> None:
    """Name the files without a partner."""
    if job.absent:
        say(f"goctconv: {job.data.name}: {plural(len(job.absent), 'image')} missing, left out: {shorten(job.absent)}")
    extra = job.data.lone_images
    if extra and not args.quiet:
        say(f"goctconv: {job.data.name}: {plural(len(extra), 'extra file')}: {shorten(extra)}")


def _table(results: Sequence[_Result]) -> str:
    """Return the scores as text: a line per data set, and the protocol."""
    scores = _scores(results)
    first = scores[0][1]
    rows = [["data set", "images", *(METRICS[name] for name in first.scores())]]
    rows += [
        [name, str(found.images), *(f"{value:.4f}" for value in found.scores().values())] for name, found in scores
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])  # the name, then numbers
        for row in rows
    ]
    return "\n".join([*lines, f"protocol {first.protocol}"])


def _scores(results: Sequence[_Result]) -> list[tuple[str, SaliencyScores]]:
    return [(result.job.data.name, result.scores) for result in results if result.scores is not None]


def _write(results: Sequence[_Result], args: argparse.Namespace) -> None:
    if args.json is not None:
        write_file(args.json, json.dumps(_as_json(results, args), indent=1) + "\n")
    if args.csv is not None:
        write_file(args.csv, _as_csv(_scores(results)))
    if args.plot is not None:
        _plot(args.plot, _scores(results))
    if args.report is not None:
        subtitle = f"maps in {args.predictions}" if args.predictions else f"{args.model} at input size {args.size}"
        write_file(args.report, evaluation_page(dict(_scores(results)), subtitle=subtitle))


def _as_json(results: Sequence[_Result], args: argparse.Namespace) -> dict[str, Any]:
    """Return everything that is known, the names of files without a partner included."""
    model = None
    if args.predictions is None:
        size = [args.size, args.size] if isinstance(args.size, int) else args.size
        weights = str(args.weights) if args.weights else "pretrained" if args.pretrained else None
        model = {"name": args.model, "weights": weights, "size": size}
    data_sets = [
        {
            "name": result.job.data.name,
            "source": result.job.source,
            **(result.scores.to_dict() if result.scores else {}),
            "missing": [str(path) for path in result.job.absent],
            "extra": [str(path) for path in result.job.data.lone_images],
            "failed": list(result.failures),
        }
        for result in results
    ]
    return {"goctconv": __version__, "model": model, "data_sets": data_sets}


def _as_csv(scores: list[tuple[str, SaliencyScores]]) -> str:
    """Return the curves: a line per data set and threshold."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    _, *names = scores[0][1].curves.to_dict()
    writer.writerow(["data_set", "protocol", "threshold", *names])
    for name, found in scores:
        for values in zip(*found.curves.to_dict().values(), strict=True):
            writer.writerow([name, found.protocol.name, *values])
    return text.getvalue()


def _plot(path: Path, scores: list[tuple[str, SaliencyScores]]) -> None:
    """Draw precision by recall, and F by threshold, of each data set."""
    curves = {f"{name}: max F {max(found.curves.f):.4f}": found.curves for name, found in scores}
    title = f"Precision, recall and F, protocol {scores[0][1].protocol.name}"
    picture = learning_curves(curves, ("precision", "f"), x=("recall", "thresholds"), title=title)
    with writing(path):
        picture.save(path)
