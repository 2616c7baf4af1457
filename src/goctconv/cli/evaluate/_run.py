"""``goctconv evaluate``: the run."""

import argparse
from collections.abc import Callable
from functools import partial

from ...saliency.metrics import METRICS, SaliencyMetrics
from ...saliency.metrics._weighted_f import has_scipy
from .._command import CommandError
from .._model import choose_device, load_trained_model
from .._output import Progress, check_picture, plural, progress, say, shorten, tell
from ._report import Result, render_table, write_csv, write_json, write_plot
from ._scores import Tally, score_maps, score_model
from ._sources import Job, check_sizes, find_jobs


def run_evaluate(args: argparse.Namespace) -> int:
    """Print and write the metrics that the arguments ask for, and return the exit status.

    Raises:
        CommandError: Nothing can be done: wrong arguments, sizes or weights, or no image is left.
    """
    make = _metrics(args)
    if args.plot is not None:
        check_picture(args.plot)
    jobs = find_jobs(args)
    score = _scorer(args)
    for job in jobs:
        _note(job, args)
    if not args.resize:
        check_sizes(jobs)
    results, failed = [], False
    with progress(sum(len(job.data.pairs) for job in jobs), quiet=args.quiet) as shown:
        for job in jobs:
            tally = score(job, make, args, shown)
            failed |= bool(tally.failures or job.absent)
            if tally.metrics.images:
                results.append(_result(job, tally))
    if not results:
        raise CommandError("no image could be evaluated.")
    tell(render_table(results))
    _write(results, args)
    return 1 if failed else 0


def _metrics(args: argparse.Namespace) -> Callable[[], SaliencyMetrics]:
    names = args.metrics.replace(" ", "").split(",") if args.metrics else list(METRICS)
    if not args.metrics and not has_scipy():
        names.remove("weighted_f")
        if not args.quiet:
            say("goctconv: weighted F is left out: it needs scipy, pip install goctconv[eval].")
    try:
        first = SaliencyMetrics(args.protocol, names)
    except (ValueError, ImportError) as error:
        raise CommandError(str(error)) from error
    return partial(SaliencyMetrics, first.protocol, first.metrics)


def _scorer(
    args: argparse.Namespace,
) -> Callable[[Job, Callable[[], SaliencyMetrics], argparse.Namespace, Progress], Tally]:
    if args.predictions is not None:
        return score_maps
    model, device = load_trained_model(args), choose_device(args.device)
    return partial(score_model, model=model, device=device)


def _result(job: Job, tally: Tally) -> Result:
    try:
        scores = tally.metrics.compute()
    except ValueError as error:
        raise CommandError(f"{job.source}: {error}") from error
    return Result(job, scores, tally.failures)


def _note(job: Job, args: argparse.Namespace) -> None:
    """Name the files without a partner."""
    if job.absent:
        say(f"goctconv: {job.data.name}: {plural(len(job.absent), 'image')} missing, left out: {shorten(job.absent)}")
    extra = job.data.lone_images
    if extra and not args.quiet:
        say(f"goctconv: {job.data.name}: {plural(len(extra), 'extra file')}: {shorten(extra)}")


def _write(results: list[Result], args: argparse.Namespace) -> None:
    model = None
    if args.predictions is None:
        size = [args.size, args.size] if isinstance(args.size, int) else args.size
        weights = str(args.weights) if args.weights else "pretrained" if args.pretrained else None
        model = {"name": args.model, "weights": weights, "size": size}
    if args.json is not None:
        write_json(args.json, results, model)
    if args.csv is not None:
        write_csv(args.csv, results)
    if args.plot is not None:
        write_plot(args.plot, results)
