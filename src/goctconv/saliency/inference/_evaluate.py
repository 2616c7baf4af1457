"""Scores of a network's maps of photographs, or of maps on the disk, against masks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..._checks import ArgumentError
from ...graph import evaluating
from .._resize import Size, check_size_or_own, resize_bilinear
from ..data import (
    DataSet,
    DataSetError,
    ImageError,
    ImagePair,
    Mask,
    SkippedPairWarning,
    default_workers,
    find_pairs,
    listed,
    mask_of,
    read_image,
    understand_masks,
    warn_of_masks,
)
from ..metrics import METRICS, Protocol, SaliencyMetrics, SaliencyScores
from ..metrics._weighted_f import has_scipy
from ._network import Map, check_model, each_probability
from ._pipeline import Outcome, Prepared, attempt, prepare, run_pipeline
from ._render import grey_map

Levels = NDArray[np.uint8]


def evaluate(
    data: str | os.PathLike[str] | DataSet,
    model: nn.Module | None = None,
    *,
    predictions: str | os.PathLike[str] | Literal[True] | None = None,
    protocol: str | Protocol = "paper",
    metrics: Sequence[str] | None = None,
    size: Size = 224,
    batch_size: int = 8,
    workers: int | None = None,
    device: str | torch.device = "auto",
    resize: bool = False,
    foreground: int | Sequence[int] | None = None,
    on_pair: Callable[[Outcome[ImagePair, SaliencyMetrics]], object] | None = None,
) -> SaliencyScores:
    """Compare a network's maps of photographs, or maps on the disk, with masks.

    Maps are made and compared as 8-bit levels at the masks' sizes, as published. Images that cannot be read are left
    out with a warning.

    Grey levels of a mask above 128 are foreground, as published. Of masks with a palette of colours it is every index
    but 0, and 255 is ignored, as in PASCAL VOC; of masks in colour it is what is not black; of masks with transparency
    that varies it is what is opaque; of masks that hold nothing but 0 and 1 it is 1. That is decided for the whole data
    set. A warning says so where masks are understood in several ways, are all empty, or hold small numbers like label
    maps.

    Args:
        data: Photographs (or maps) with masks: a folder or list in a layout of `find_pairs`, or what that found.
        model: A network that takes normalised images (B, 3, H, W) and returns logits (B, 1, H, W).
        predictions: Instead of a model, a folder of maps, named as the masks are; True if ``data`` pairs maps with
            masks already, as ``find_pairs(data, maps=folder)`` does.
        protocol: How to compute: "paper", "pysodmetrics", or a `Protocol`.
        metrics: Names of those to compute; by default all, without the weighted F if scipy is not installed.
        size: The network's input size, as for `predict`.
        batch_size: Images per forward pass.
        workers: Threads that read and compare; by default one per processor, at most four.
        device: "auto" is where the model is.
        resize: Whether maps of other sizes are resized to their masks.
        foreground: The values of masks, or indices of their palettes, that are foreground, such as ``(1, 2)``.
        on_pair: Is called after each image, in order, and hears of those that are left out in place of the warning. Its
            argument has the attributes ``source``, the pair; ``value``, the metrics of the image alone; and ``error``.

    Returns:
        The scores, as `goctconv.saliency.metrics.SaliencyMetrics.compute` returns them.

    Raises:
        ArgumentError: Both or neither of ``model`` and ``predictions``, an argument out of range, or a model whose
            output is not a map.
        DataSetError: The data set is not found, or no image of it can be compared.

    Example:
        >>> import pathlib, tempfile, torch
        >>> from goctconv.saliency import evaluate, synthetic_images
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> for index, images in enumerate(synthetic_images(2, sides=(40, 60))):
        ...     for kind, image in zip(("images", "masks"), images):
        ...         (folder / kind).mkdir(exist_ok=True)
        ...         image.save(folder / kind / f"{index}.png")
        >>> evaluate(folder, torch.nn.Conv2d(3, 1, 1), metrics=["mae"]).images  # any network that returns logits
        2
        >>> evaluate(folder, predictions=folder / "masks", metrics=["max_f"]).max_f > 0.99
        True
    """
    if (model is None) == (predictions is None):
        problem = "with {predictions}" if model is not None else "without {predictions}"
        raise ArgumentError("model", model, problem=problem, cure="pass one of {model} and {predictions}")
    found = data if isinstance(data, DataSet) else find_pairs(data)
    found = found if predictions is None or predictions is True else find_pairs(found, maps=predictions)
    pairs, findings = understand_masks(found, foreground)
    warn_of_masks(findings)
    total = SaliencyMetrics(protocol, available_metrics() if metrics is None else metrics)
    problems = []
    for scored in score_pairs(
        pairs, total, model, size=size, batch_size=batch_size, workers=workers, device=device, resize=resize
    ):
        if scored.value is not None:
            total.merge(scored.value)
        else:
            problems.append(str(scored.error))
        if on_pair is not None:
            on_pair(scored)
    if not total.images:
        raise DataSetError(f"{found.name}: no image can be compared: {problems[0] if problems else 'there is none'}")
    if problems and on_pair is None:
        warnings.warn(f"{len(problems)} images are left out: {listed(problems)}", SkippedPairWarning, stacklevel=2)
    return total.compute()


def available_metrics() -> tuple[str, ...]:
    """Return the names of the metrics that can be computed here: the weighted F needs scipy."""
    return tuple(name for name in METRICS if name != "weighted_f" or has_scipy())


def score_pairs(
    pairs: Sequence[ImagePair],
    like: SaliencyMetrics,
    model: nn.Module | None = None,
    *,
    size: Size = 224,
    batch_size: int = 8,
    workers: int | None = None,
    device: str | torch.device = "auto",
    resize: bool = False,
) -> Iterator[Outcome[ImagePair, SaliencyMetrics]]:
    """Yield the metrics of each pair, in order; an image that cannot be read or compared is reported in it."""
    make = partial(SaliencyMetrics, like.protocol, like.metrics)
    workers = workers or default_workers()
    if model is None:
        yield from _score_maps(pairs, make, workers, resize=resize)
        return
    check_model(model)
    network_size = check_size_or_own(size)

    def load(pair: ImagePair) -> Prepared:
        return prepare(pair.image, network_size)

    def finish(pair: ImagePair, probability: Map, _: tuple[int, int]) -> SaliencyMetrics:
        mask = mask_of(pair)
        return _score(make(), grey_map(probability, mask.levels.shape), mask, pair)

    with evaluating(model, device) as network:
        infer = partial(each_probability, network)
        with closing(run_pipeline(pairs, load, infer, finish, batch_size=batch_size, workers=workers)) as outcomes:
            yield from outcomes


def _score_maps(
    pairs: Sequence[ImagePair], make: partial[SaliencyMetrics], workers: int, *, resize: bool
) -> Iterator[Outcome[ImagePair, SaliencyMetrics]]:
    def score(pair: ImagePair) -> SaliencyMetrics:
        levels, mask = _read_grey(pair.image), mask_of(pair)
        if resize and levels.shape != mask.levels.shape:
            levels = np.rint(resize_bilinear(levels, mask.levels.shape)).astype(np.uint8)
        return _score(make(), levels, mask, pair)

    with ThreadPoolExecutor(workers, thread_name_prefix="goctconv") as executor:
        yield from executor.map(lambda pair: attempt(pair, partial(score, pair)), pairs)


def _score(metrics: SaliencyMetrics, levels: Levels, mask: Mask, pair: ImagePair) -> SaliencyMetrics:
    ignored = None if mask.ignored is None else torch.from_numpy(mask.ignored)
    try:
        metrics.update(torch.from_numpy(levels), torch.from_numpy(np.array(mask.levels)), ignored)
    except ArgumentError as error:
        raise ImageError(f"{pair.image} and its mask {pair.mask}: {error}") from error
    if not metrics.images:
        raise ImageError(f"{pair.mask}: the mask ignores every pixel: leave it out")
    return metrics


def _read_grey(path: Path) -> Levels:
    return np.array(read_image(path).convert("L"))
