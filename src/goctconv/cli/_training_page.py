"""The pages about a training run: pictures, photographs with maps, and how exact pruning was."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ..pruning import PruningPlan, PruningReport
from ..report import (
    channel_widths,
    gamma_distribution,
    gamma_over_time,
    learning_curves,
    pruning_page,
    training_page,
)
from ..saliency import ImageError, grey_map, predict, read_image
from ..saliency.data import mask_of
from ..training import TrainingHistory, TrainingResult
from ._output import plural, write_file

if TYPE_CHECKING:
    from ..report import Picture
    from ..saliency.data import BothLoaders, ImagePair

REPORT, REASONS = "report.html", "pruning.html"
_SIDE = 320  # of pictures on a page, in pixels
_DISTANCES = ("mae", "teacher_mae")  # to masks, and to a teacher's maps
_SHOWN = 8  # examples on the page
_PROVED_ON = 16  # photographs


class Target(NamedTuple):
    """What a map of a photograph should look like: its caption, and what draws it of a pair and a photograph."""

    caption: str
    picture: Callable[[ImagePair, Image.Image], Image.Image]


TRUE_MASK = Target("true mask", lambda pair, _: Image.fromarray(mask_of(pair).levels))
Example: TypeAlias = tuple[str, dict[str, NDArray[np.uint8]]]
"""A photograph's name, and pictures by caption: the photograph, what its map should be, and maps."""


class Proof(NamedTuple):
    """Two distances: the cost of masking channels, and how exact it is to remove them then."""

    masked: float  # of the maps with and without the channels below the threshold
    cut: float  # of the outputs with these channels masked and with these channels removed, relative, in float64

    def numbers(self, report: PruningReport) -> dict[str, float]:
        """Return them, and what was measured when channels were removed, by what was compared."""
        at_zero = "channels below the threshold at 0 and cut, largest difference, of the largest output"
        return {
            "maps with and without channels below the threshold: mean difference": self.masked,
            f"{at_zero}: these pictures, float64": self.cut,
            **{f"the same: {name}, float32": value for name, value in report.difference.items()},
        }


@torch.no_grad()
def prove(model: nn.Module, plan: PruningPlan, batches: Sequence[Tensor]) -> Proof:
    """Measure on images (B, 3, H, W) what masking changed in the maps of a network, and what cutting changed."""
    masked = plan.mask(deepcopy(model))
    costs = [(model(batch).sigmoid() - masked(batch).sigmoid()).abs().mean((1, 2, 3)) for batch in batches]
    cut = plan.apply(model).double().eval()
    masked.double()
    pairs = [(masked(batch.double()), cut(batch.double())) for batch in batches]
    largest = max(first.abs().max().item() for first, _ in pairs)
    difference = max((first - second).abs().max().item() for first, second in pairs)
    return Proof(torch.cat(costs).mean().item(), difference / largest if largest else 0.0)


def figures(
    name: str,
    history: TrainingHistory,
    before: nn.Module | None,
    widths: Mapping[str, nn.Module] | PruningReport,
    threshold: float | None,
) -> list[Picture]:
    """Return γ over time and before pruning, where that network is known, loss and error, and widths."""
    pruned = {"pruned": sum(epoch.phase == "train" for epoch in history.epochs)}
    distances = [key for key in _DISTANCES if any(key in epoch.validation for epoch in history.epochs)]
    found: list[Picture] = []
    if any(epoch.channels for epoch in history.epochs):
        found.append(gamma_over_time(history, events=pruned, threshold=threshold or None))
    if before is not None:
        decayed = getattr(before, "dynamic_decay_names", None)
        names = decayed() if callable(decayed) else None
        found.append(
            gamma_distribution(
                {"before pruning": before}, layers=names, threshold=threshold or None, title="Before pruning"
            )
        )
    curves = learning_curves({name: history}, ("loss", *distances), events=pruned)
    return [*found, curves, channel_widths(widths)]


def example_of(
    pair: ImagePair, networks: Mapping[str, nn.Module], size: Any, target: Target = TRUE_MASK
) -> Example | None:
    """Return a photograph with its mask and the networks' maps, or None where it cannot be: learning has named it."""
    try:
        photograph = read_image(pair.image)
        pictures = {"photograph": photograph, target.caption: target.picture(pair, photograph)}
        for caption, network in networks.items():
            pictures[caption] = Image.fromarray(grey_map(predict(network, [photograph], size=size)[0]))
    except (ImageError, FloatingPointError):
        return None
    return pair.name, thumbnails(pictures)


def thumbnails(pictures: Mapping[str, Image.Image]) -> dict[str, NDArray[np.uint8]]:
    """Return pictures for a page, as small arrays."""
    small = {caption: picture.copy() for caption, picture in pictures.items()}
    for picture in small.values():
        picture.thumbnail((_SIDE, _SIDE))
    return {caption: np.asarray(picture) for caption, picture in small.items()}


def write_report(
    config: Any,
    result: TrainingResult,
    before: nn.Module | None,
    loaders: BothLoaders,
    target: Target,
    summary: dict[str, Any],
) -> None:
    """Write the pages about a run and about what was removed; ``before`` is the network before pruning, if known."""
    networks = {"map": result.model} if before is None else {"map before pruning": before, "map after": result.model}
    pairs = (loaders.validation or loaders.train).pairs
    examples = (example_of(pair, networks, config.sizes[0], target) for pair in pairs)
    parts: dict[str, Any] = {
        "subtitle": _subtitle(config, summary),
        "note": _note(summary),
        "warning": not summary["channels"]["removed"],
        "numbers": _numbers(summary),
        "proof": {} if before is None else _proof(result, before, loaders).numbers(result.report),
        "pictures": figures(config.model, result.history, before, result.report, result.threshold),
        "examples": list(itertools.islice((example for example in examples if example is not None), _SHOWN)),
    }
    seen = "" if loaders.validation is not None else " (photographs that it was trained on)"
    title = f"Training of {config.model}{seen}"
    try:
        page = training_page(title, **parts)
    except ValueError:  # too large: a network of very many layers
        page = training_page(title, **parts | {"examples": ()}, max_bytes=None)
    write_file(config.output / REPORT, page)
    write_file(config.output / REASONS, pruning_page(result.report, f"Channels removed from {config.model}"))


def _proof(result: TrainingResult, before: nn.Module, loaders: BothLoaders) -> Proof:
    batches: list[Tensor] = []
    for batch in loaders.validation or loaders.train:
        batches.append(batch.images[: _PROVED_ON - sum(map(len, batches))])
        if sum(map(len, batches)) >= _PROVED_ON:
            break
    return prove(before, result.plan, batches)


def _subtitle(config: Any, summary: dict[str, Any]) -> str:
    epochs, pairs = summary["epochs"], summary["pairs"]
    sizes = ", ".join("x".join(map(str, size)) if isinstance(size, tuple) else str(size) for size in config.sizes)
    compared = f", compared on {pairs['validation']} others" if pairs["validation"] else ""
    decay = " with dynamic weight decay" if config.weight_decay else ""
    taught = f", taught by {summary['teacher']}" if "teacher" in summary else ""
    return (
        f"{plural(epochs['train'], 'epoch')}{decay} and {epochs['finetune']} of fine-tuning on "
        f"{plural(pairs['train'], 'photograph')} at {sizes}{taught}{compared}, seed {config.seed}"
    )


def _note(summary: dict[str, Any]) -> str:
    channels, (before, after) = summary["channels"], summary["parameters"]
    text = (
        f"{channels['removed']} of {channels['before']} channels went, and with them {1 - after / before:.1%} of the "
        f"parameters; `{REASONS}` tells which, and why others stayed."
    )
    if not channels["removed"]:
        text = "Nothing was removed: no channel has a score below the threshold."
    skipped = summary["skipped"]
    return text + (f" {plural(len(skipped), 'pair')} could not be read and were skipped." if skipped else "")


def _numbers(summary: dict[str, Any]) -> dict[str, tuple[float | None, float | None]]:
    channels, scores = summary["channels"], summary["scores"]
    after = scores["finetuned"] or scores["pruned"]
    numbers: dict[str, tuple[float | None, float | None]] = {
        "parameters": tuple(summary["parameters"]),
        "MACs": tuple(summary["macs"]),
        "channels of BatchNorm": (channels["before"], channels["before"] - channels["removed"]),
    }
    for key, name in (("mae", "MAE"), ("max_f", "max F"), ("teacher_mae", "distance to the teacher's maps")):
        if key in scores["before"] or key in after:
            numbers[name] = (scores["before"].get(key), after.get(key))
    return numbers
