"""``goctconv evaluate``: the run."""

from __future__ import annotations

import argparse
import csv
import importlib.util
import io
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from .._checks import ArgumentError
from .._version import __version__
from ..report import evaluation_page, learning_curves
from ..saliency import DataSetError, ImageError, evaluate, find_pairs
from ..saliency.data import header_sizes, with_rules
from ..saliency.metrics import SaliencyMetrics
from ._command import CommandError, spelling
from ._model import choose_device, computing, input_size_or_own, load_trained_model, settle_size
from ._output import Progress, aligned, check_picture, plural, progress, say, shorten, tell, write_file, writing

if TYPE_CHECKING:
    from ..saliency.data import DataSet, ImagePair, MaskFinding
    from ..saliency.metrics import SaliencyScores


class _Job(NamedTuple):
    """A data set whose pairs are (map or photograph, mask), where it came from, and what its masks are."""

    source: str
    data: DataSet
    masks: tuple[MaskFinding, ...] = ()

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
    metrics = args.metrics.replace(" ", "").split(",") if args.metrics else None
    if metrics is None and not args.quiet and importlib.util.find_spec("scipy") is None:
        say("goctconv: weighted F is left out: it needs scipy, pip install goctconv[eval]")
    try:
        SaliencyMetrics(args.protocol, metrics or ["mae"])  # which says what is wrong before the work begins
    except ImportError as error:
        raise CommandError(str(error)) from error
    if args.plot is not None:
        check_picture()
    jobs = _find_jobs(args)
    model, device = None, torch.device("cpu")
    if not args.predictions:
        model, device = load_trained_model(args), choose_device(args.device)
    settle_size(args, model)
    jobs = [_understood(job, args) for job in jobs]
    if not args.resize:
        _check_sizes(jobs)
    with progress(sum(len(job.data.pairs) for job in jobs), quiet=args.quiet) as shown, computing(args, device):
        results = [_score(job, metrics, model, device, args, shown) for job in jobs]
    if all(result.scores is None for result in results):
        raise CommandError("no image could be evaluated")
    _tell_and_write([result for result in results if result.scores is not None], args)
    if empty := [result.job.data.name for result in results if result.scores is not None and result.scores.is_empty]:
        say(f"goctconv: {shorten(empty)}: every mask is empty: there is nothing to find, and only MAE says something")
    return 1 if empty or any(result.failures or result.job.absent for result in results) else 0


def _tell_and_write(results: Sequence[_Result], args: argparse.Namespace) -> None:
    scores = [(result.job.data.name, result.scores) for result in results if result.scores is not None]
    first = scores[0][1]
    rows = [["data set", "images", *first.titled()]]
    rows += [[name, str(found.images), *found.shown().values()] for name, found in scores]
    tell("\n".join([*aligned(rows), f"protocol {first.protocol}"]))
    if args.json is not None:
        write_file(args.json, json.dumps(_as_json(results, args), indent=1) + "\n")
    if args.csv is not None:
        write_file(args.csv, _as_csv(scores))
    if args.plot is not None:
        curves = {_label(name, found): found.curves for name, found in scores}
        title = f"Precision, recall and F, protocol {first.protocol.name}"
        with writing(args.plot):  # precision by recall, and F by threshold, of each data set
            learning_curves(curves, ("precision", "f"), x=("recall", "thresholds"), title=title).save(args.plot)
    if args.report is not None:
        subtitle = f"maps in {args.predictions}" if args.predictions else f"{args.model} at input size {args.size}"
        notes = [finding.text(spelling(args)) for result in results for finding in result.job.masks]
        write_file(args.report, evaluation_page(dict(scores), subtitle=subtitle, notes=notes))


def _label(name: str, scores: SaliencyScores) -> str:
    return f"{name}: {'all masks are empty' if scores.is_empty else f'max F {max(scores.curves.f):.4f}'}"


def _score(
    job: _Job,
    metrics: list[str] | None,
    model: nn.Module | None,
    device: torch.device,
    args: argparse.Namespace,
    shown: Progress,
) -> _Result:
    """Compare the images of a data set, and show each that cannot be compared."""
    failures = []

    def note(scored: Any) -> None:
        shown.step()
        if scored.error is not None:
            named = isinstance(scored.error, ImageError)
            kind = "" if named else f"{scored.source.image}: {type(scored.error).__name__} "
            failures.append(f"{kind}{scored.error}")
            shown.line(f"goctconv: {failures[-1]}")

    try:
        scores = evaluate(
            job.data,
            model,
            predictions=True if model is None else None,
            protocol=args.protocol,
            metrics=metrics,
            size=input_size_or_own(args.size),
            batch_size=args.batch_size,
            workers=args.workers,
            device=device,
            resize=args.resize,
            on_pair=note,
        )
    except DataSetError:
        return _Result(job, None, failures)
    except ArgumentError as error:
        if error.argument != "protocol":  # which may count no mask of the data set
            raise
        raise CommandError(f"{job.source}: {error}") from error
    return _Result(job, scores, failures)


def _find_jobs(args: argparse.Namespace) -> list[_Job]:
    """Return the data sets that the arguments mean."""
    _check(args)
    try:
        if args.masks:
            images = args.predictions or args.images
            return [_Job(str(args.masks), find_pairs(images, masks=args.masks))]
        jobs = _unique_names([_Job(source, find_pairs(source)) for source in args.datasets])
        if not args.predictions:
            return jobs
        folders = [_maps_of(args.predictions, job.data.name, alone=len(jobs) == 1) for job in jobs]
        return [_Job(job.source, find_pairs(job.data, maps=folder)) for job, folder in zip(jobs, folders, strict=True)]
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
    return [job._replace(data=replace(job.data, name=job.source)) if count[job.data.name] > 1 else job for job in jobs]


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


def _understood(job: _Job, args: argparse.Namespace) -> _Job:
    """Name the files without a partner, and say what the masks of the others are."""
    _note(job, args)
    data, findings = with_rules(job.data, args.foreground)
    for finding in findings:
        if finding.is_doubt or not args.quiet:
            say(f"goctconv: {finding.text(spelling(args))}")
    return _Job(job.source, data, findings)


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
            "masks": [finding.text() for finding in result.job.masks],
        }
        for result in results
    ]
    return {"goctconv": __version__, "model": model, "data_sets": data_sets}


def _as_csv(scores: Sequence[tuple[str, SaliencyScores]]) -> str:
    """Return the curves: a line per data set and threshold."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    _, *names = scores[0][1].curves.to_dict()
    writer.writerow(["data_set", "protocol", "threshold", *names])
    for name, found in scores:
        for values in zip(*found.curves.to_dict().values(), strict=True):
            writer.writerow([name, found.protocol.name, *values])
    return text.getvalue()
