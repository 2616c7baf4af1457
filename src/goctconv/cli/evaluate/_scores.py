"""``goctconv evaluate``: comparing the files of a data set."""

import argparse
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...graph import evaluating
from ...saliency import ImageError, ImagePair, grey_map, read_image
from ...saliency.data import default_workers
from ...saliency.inference import Prepared, each_probability, prepare, resize_bilinear, run_pipeline
from ...saliency.metrics import SaliencyMetrics
from .._command import CommandError
from .._memory import out_of_memory
from .._model import input_size_or_own, unusable
from .._output import Progress, plural
from ._sources import Job

Levels = NDArray[np.uint8]


@dataclass
class Tally:
    """The metrics of a data set's images, and what is wrong with those that are left out."""

    metrics: SaliencyMetrics
    failures: list[str] = field(default_factory=list)

    def add(self, pair: ImagePair, scored: SaliencyMetrics | None, error: Exception | None, shown: Progress) -> None:
        """Count an image, or show what is wrong with it."""
        shown.step()
        if scored is not None:
            self.metrics.merge(scored)
        if error is not None:
            named = isinstance(error, ImageError)
            self.failures.append(str(error) if named else f"{pair.image}: {type(error).__name__} {error}")
            shown.line(f"goctconv: {self.failures[-1]}")


def score_maps(job: Job, make: Callable[[], SaliencyMetrics], args: argparse.Namespace, shown: Progress) -> Tally:
    """Compare maps on disk with their masks."""
    tally = Tally(make())

    def score(pair: ImagePair) -> tuple[SaliencyMetrics | None, Exception | None]:
        try:
            levels, mask = _read_grey(pair.image), _read_grey(pair.mask)
            if args.resize and levels.shape != mask.shape:
                levels = np.rint(resize_bilinear(levels, mask.shape)).astype(np.uint8)
            return _score(make(), levels, mask, pair), None
        except (ImageError, OSError, MemoryError) as error:
            return None, error

    executor = ThreadPoolExecutor(args.workers or default_workers(), thread_name_prefix="goctconv")
    try:
        for pair, outcome in zip(job.data.pairs, executor.map(score, job.data.pairs), strict=True):
            tally.add(pair, *outcome, shown)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
    return tally


def score_model(
    job: Job,
    make: Callable[[], SaliencyMetrics],
    args: argparse.Namespace,
    shown: Progress,
    model: nn.Module,
    device: torch.device,
) -> Tally:
    """Compare a model's maps of photographs with their masks.

    Raises:
        CommandError: The model's output is no map, or the device has not enough memory.
    """
    tally, size = Tally(make()), input_size_or_own(args.size)

    def load(pair: ImagePair) -> Prepared:
        return prepare(pair.image, size)

    def finish(pair: ImagePair, probability: NDArray[np.float32], _: tuple[int, int]) -> SaliencyMetrics:
        mask = _read_grey(pair.mask)
        return _score(make(), grey_map(probability, mask.shape), mask, pair)

    with evaluating(model, device) as network:
        pipeline = run_pipeline(
            job.data.pairs,
            load,
            lambda pixels: each_probability(network, pixels),
            finish,
            batch_size=args.batch_size,
            workers=args.workers or default_workers(),
        )
        try:
            with closing(pipeline) as outcomes:
                for outcome in outcomes:
                    tally.add(outcome.source, outcome.value, outcome.error, shown)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise CommandError(
                f"{device} has not enough memory for {plural(args.batch_size, 'photograph')} at size {args.size}: "
                "lower --batch-size or --size" + ("." if device.type == "cpu" else ", or take --device cpu.")
            ) from error
        except ValueError as error:
            raise unusable(error) from error
    return tally


def _score(metrics: SaliencyMetrics, levels: Levels, mask: Levels, pair: ImagePair) -> SaliencyMetrics:
    try:
        metrics.update(torch.from_numpy(levels), torch.from_numpy(mask))
    except ValueError as error:
        raise ImageError(f"{pair.image} and its mask {pair.mask}: {error}") from error
    return metrics


def _read_grey(path: Path) -> Levels:
    return np.array(read_image(path).convert("L"))
