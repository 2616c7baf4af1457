"""``goctconv learn``: how good the maps are when channels have been removed, before fine-tuning."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..._files import write_atomic
from ...graph import evaluating, undisturbed
from ...pruning import PruningPlan
from ...training import Callback, TrainingRun

PRUNED = "pruned.json"


class PrunedScores(Callback):
    """Compares the maps of the slim network and writes the scores to a file, which outlives an interruption.

    Args:
        validation: Compares maps.
        path: The file.
    """

    def __init__(self, validation: Callable[[nn.Module], dict[str, float]], path: Path) -> None:
        self.validation = validation
        self.path = path

    def on_pruned(self, run: TrainingRun, plan: PruningPlan) -> None:  # noqa: ARG002
        """Compare and write."""
        with undisturbed(), evaluating(run.model), torch.no_grad():
            scores: dict[str, Any] = self.validation(run.model)
        text = json.dumps(scores)
        write_atomic(self.path, lambda stream: stream.write(text.encode()))
