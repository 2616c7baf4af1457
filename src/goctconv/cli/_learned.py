"""Contents of the pages about a training run: pictures, photographs with maps, and how exact pruning was."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from ..pruning import PruningPlan, PruningReport
from ..report import Picture, channel_widths, gamma_distribution, gamma_over_time, learning_curves
from ..saliency import ImageError, grey_map, predict, read_image
from ..saliency.data import ImagePair
from ..saliency.inference import NotANumberError, Size
from ..training import TrainingHistory

_SIDE = 320  # of pictures on a page, in pixels
_DISTANCES = ("mae", "teacher_mae")  # to masks, and to a teacher's maps


@dataclass(frozen=True)
class Target:
    """What a network's map of a photograph should look like.

    Attributes:
        caption: What it is.
        picture: Returns it, of a pair and its photograph.
    """

    caption: str
    picture: Callable[[ImagePair, Image.Image], Image.Image]


Example = tuple[str, dict[str, NDArray[np.uint8]]]
"""A photograph's name, and pictures by caption: the photograph, what its map should be, and maps."""

TRUE_MASK = Target("true mask", lambda pair, _: read_image(pair.mask).convert("L"))


@dataclass(frozen=True)
class Proof:
    """Two distances.

    Attributes:
        masked: Of the maps with and without the channels below the threshold: the cost of leaving them out.
        cut: Of the outputs with these channels masked and with these channels removed, relative, in float64.
    """

    masked: float
    cut: float

    def numbers(self, report: PruningReport) -> dict[str, float]:
        """Return them, and what was measured when channels were removed, by what was compared."""
        at_zero = "channels below the threshold at 0 and cut, largest difference, of the largest output"
        return {
            "maps with and without channels below the threshold: mean difference": self.masked,
            f"{at_zero}: these pictures, float64": self.cut,
            **{f"the same: {name}, float32": value for name, value in report.difference.items()},
        }


def prove(model: nn.Module, plan: PruningPlan, batches: Sequence[Tensor]) -> Proof:
    """Measure what masking changed in the maps, and what cutting changed.

    Args:
        model: The trained network before pruning, in eval mode; it stays as it is.
        plan: What was removed.
        batches: Images (B, 3, H, W).
    """
    masked = plan.mask(deepcopy(model))
    cost = _mean_difference(model, masked, batches)
    cut = plan.apply(model).double().eval()
    return Proof(cost, _largest_difference(masked.double(), cut, [batch.double() for batch in batches]))


@torch.no_grad()
def _mean_difference(model: nn.Module, other: nn.Module, batches: Sequence[Tensor]) -> float:
    differences = [(model(batch).sigmoid() - other(batch).sigmoid()).abs().mean((1, 2, 3)) for batch in batches]
    return torch.cat(differences).mean().item()


@torch.no_grad()
def _largest_difference(model: nn.Module, other: nn.Module, batches: Sequence[Tensor]) -> float:
    pairs = [(model(batch), other(batch)) for batch in batches]
    largest = max(first.abs().max().item() for first, _ in pairs)
    return float(max((first - second).abs().max().item() for first, second in pairs) / largest) if largest else 0.0


def figures(
    name: str,
    history: TrainingHistory,
    before: nn.Module | None,
    widths: Mapping[str, nn.Module] | PruningReport,
    threshold: float | None,
) -> list[Picture]:
    """Return γ over time and before pruning, loss and error, and widths before and after.

    Args:
        name: The model's.
        history: Of the run.
        before: The network before pruning, where it is known.
        widths: As for `channel_widths`.
        threshold: Below which γ were masked.
    """
    pruned = {"pruned": sum(epoch.phase == "train" for epoch in history.epochs)}
    distances = [key for key in _DISTANCES if any(key in epoch.validation for epoch in history.epochs)]
    found = []
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
    pair: ImagePair, networks: Mapping[str, nn.Module], size: Size, target: Target = TRUE_MASK
) -> Example | None:
    """Return a photograph with its mask and the networks' maps, or None where it cannot be: learning has named it."""
    try:
        photograph = read_image(pair.image)
        pictures = {"photograph": photograph, target.caption: target.picture(pair, photograph)}
        for caption, network in networks.items():
            pictures[caption] = Image.fromarray(grey_map(predict(network, [photograph], size=size)[0]))
    except (ImageError, NotANumberError):
        return None
    return pair.name, thumbnails(pictures)


def thumbnails(pictures: Mapping[str, Image.Image]) -> dict[str, NDArray[np.uint8]]:
    """Return pictures for a page, as small arrays."""
    small = {caption: picture.copy() for caption, picture in pictures.items()}
    for picture in small.values():
        picture.thumbnail((_SIDE, _SIDE))
    return {caption: np.asarray(picture) for caption, picture in small.items()}
