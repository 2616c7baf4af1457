"""``goctconv learn``: what a network is trained on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...saliency import SaliencyStep, SaliencyValidation
from ...saliency.data import BothLoaders
from .._learned import TRUE_MASK, Target
from ._config import Config
from ._data import make_loaders


@dataclass(frozen=True)
class Lessons:
    """What a network is trained on.

    Args:
        loaders: Of what is learned from and what maps are compared with.
        step: The loss of a batch.
        validate: Compares maps after every epoch.
        target: What maps are shown beside.
    """

    loaders: BothLoaders
    step: Callable[[nn.Module, Any], Tensor]
    validate: Callable[[nn.Module], dict[str, float]] | None
    target: Target = TRUE_MASK


def lessons_with_masks(config: Config, device: torch.device) -> Lessons:
    """Return the lessons of ``goctconv learn``.

    Raises:
        CommandError: There are no pairs, or too few.
    """
    loaders = make_loaders(config, device)
    validate = None if loaders.validation is None else SaliencyValidation(loaders.validation)
    return Lessons(loaders, SaliencyStep(config.loss, config.reduction), validate)
