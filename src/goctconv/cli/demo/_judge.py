"""How good maps are, and how good one map for all pictures would be."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...saliency.data import SaliencyLoader
from ...saliency.metrics import SaliencyMetrics

CLEARLY = 0.8  # times the error of the best map for all pictures: what the network has to reach


@dataclass(frozen=True)
class Baselines:
    """The mean absolute errors that need no network.

    Attributes:
        constant: Of the best constant, the same for every pixel of every picture.
        fixed: Of the map that is best for the pictures to learn from, the same for every picture.
    """

    constant: float
    fixed: float

    def are_beaten_by(self, mae: float) -> bool:
        """Return whether an error is clearly below both."""
        return mae <= CLEARLY * min(self.constant, self.fixed)


def measure_baselines(training: SaliencyLoader, validation: SaliencyLoader) -> Baselines:
    """Return how far off one map for all pictures is: medians, which make the absolute error least."""
    masks = _masks(validation)
    median = _masks(training).median(dim=0, keepdim=True).values
    return Baselines(_mae(masks.median().expand_as(masks), masks), _mae(median.expand_as(masks), masks))


def _masks(loader: SaliencyLoader) -> Tensor:
    return torch.cat([batch.masks for batch in loader])


def _mae(maps: Tensor, masks: Tensor) -> float:
    metrics = SaliencyMetrics(metrics=("mae",))
    metrics.update(maps, masks)
    return float(metrics.compute().scores()["mae"])
