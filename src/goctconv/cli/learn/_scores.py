"""``goctconv learn``: how good the maps are when channels have been removed, before fine-tuning."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from ..._atomic import write_atomic
from ...learning import Callback, LearningRun
from ...learning._network import evaluating
from ...learning._seeds import undisturbed
from ...pruning import PruningPlan

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

    def on_pruned(self, run: LearningRun, plan: PruningPlan) -> None:  # noqa: ARG002
        """Compare and write."""
        with undisturbed(), evaluating(run.model):
            scores: dict[str, Any] = self.validation(run.model)
        text = json.dumps(scores)
        write_atomic(self.path, lambda stream: stream.write(text.encode()))
