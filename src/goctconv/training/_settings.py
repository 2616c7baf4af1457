"""The settings of a run: what they may be, and whether a checkpoint was made with the same."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..optim import DynamicWeightDecay
from ..pruning import prune_channels
from ._errors import TrainingError

_GIVEN_BY_US = {
    "model",
    "example_inputs",
    "threshold",
    "ratio",
    "criterion",
    "inplace",
    "optimizer",
    "weight_decay",
    "include",
}
_USED_LATER = {"threshold", "criterion", "pruning_options", "finetune_epochs", "finetune_optimizer", "finetune_factor"}
DEAD = 1e-3
"""Below it, abs(γ) counts as dead as long as the threshold is not known."""


@dataclass(frozen=True)
class Settings:
    """What `goctconv.learn_channels` is told, but for functions and objects; it documents them."""

    epochs: int
    finetune_epochs: int
    weight_decay: float = 3.0
    threshold: float | str | None = 1e-20
    include: Any = None
    criterion: Any = None
    decay_options: Mapping[str, Any] = field(default_factory=dict)
    pruning_options: Mapping[str, Any] = field(default_factory=dict)
    finetune_optimizer: str = "transferred"
    finetune_factor: float = 1.0
    accumulate: int = 1
    clip_grad: float | None = None
    amp: str | None = None
    channels_last: bool = False
    compile: bool | str = False
    seed: int = 0
    freeze_batch_norm: Any = False

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("finetune_epochs", 0), ("accumulate", 1), ("seed", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name}={value!r} must be a whole number, at least {least}")
        self._check_threshold()
        _check_choice("finetune_optimizer", self.finetune_optimizer, ("transferred", "fresh"))
        _check_choice("amp", self.amp, (None, "bf16", "fp16"))
        _check_positive("finetune_factor", self.finetune_factor)
        if self.clip_grad is not None:
            _check_positive("clip_grad", self.clip_grad)
        for name in ("channels_last", "compile"):
            value = getattr(self, name)
            if not (isinstance(value, bool) or (name == "compile" and isinstance(value, str))):
                raise TypeError(f"{name}={value!r} must be True or False" + ", or a backend" * (name == "compile"))
        _check_options("decay_options", self.decay_options, DynamicWeightDecay)
        _check_options("pruning_options", self.pruning_options, prune_channels)

    def _check_threshold(self) -> None:
        value = self.threshold
        if value is None:
            if self.finetune_epochs:
                raise ValueError(
                    f"threshold=None removes nothing, so finetune_epochs={self.finetune_epochs} has nothing to do: "
                    "pass finetune_epochs=0, or a threshold"
                )
            return
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
        if not is_number and value != "valley":
            raise ValueError(
                f"threshold={value!r} must be a number, at least 0, or 'valley', which looks for one in γ's histogram; "
                "1e-20 is published, short runs need about 1e-3; None keeps all channels"
            )
        if value == "valley" and not self._scores_scales:
            raise ValueError(
                f"threshold='valley' looks for one in γ's histogram, and criterion={self.criterion!r} scores something "
                "else: give a number, or a criterion that begins with 'gamma'"
            )

    @property
    def total(self) -> int:
        """The epochs of both phases."""
        return self.epochs + self.finetune_epochs

    @property
    def dead(self) -> float:
        """Below which abs(γ) counts as dead."""
        return self.threshold if self._scores_scales and isinstance(self.threshold, int | float) else DEAD

    @property
    def _scores_scales(self) -> bool:
        return self.criterion is None or str(self.criterion).startswith("gamma")

    @property
    def is_plain(self) -> bool:
        """Whether the network is only trained: nothing decays dynamically, and no channel goes."""
        return self.weight_decay == 0 and self.threshold is None

    def described(self) -> dict[str, str]:
        """Return every setting as a text that tells it from others."""
        return {name: describe(value) for name, value in vars(self).items()}


def check_same(saved: Mapping[str, str], ours: Mapping[str, str], path: object, *, is_pruned: bool) -> None:
    """Check that a checkpoint was made with the settings of this run; what comes later may still change.

    Raises:
        TrainingError: It was made with others.
    """
    ignored = set() if is_pruned else set(_USED_LATER)
    if "None" in {saved.get("threshold"), ours.get("threshold")}:
        ignored.discard("threshold")  # whether channels go at all decides what is trained
    different = [
        f"{name}={saved.get(name, 'not set')} there, {ours.get(name, 'not set')} here"
        for name in dict.fromkeys([*saved, *ours])
        if name not in ignored and saved.get(name) != ours.get(name)
    ]
    if different:
        raise TrainingError(
            f"{path} was made with other settings: {'; '.join(different)}. Pass those it was made with, or begin anew "
            "in another folder"
        )


def describe(value: Any) -> str:
    """Return a text that is the same in another process: no addresses of objects."""
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {describe(one)}' for key, one in value.items())}}}"
    if isinstance(value, list | tuple | set):
        return f"[{', '.join(describe(one) for one in value)}]"
    if isinstance(value, functools.partial):
        return f"{describe(value.func)}({describe(value.args)}, {describe(value.keywords)})"
    if isinstance(value, nn.Module):
        return type(value).__name__
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def _check_choice(name: str, value: object, choices: tuple[object, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(map(repr, choices))}")


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name}={value!r} must be a number above 0")


def _check_options(name: str, options: object, function: Any) -> None:
    if not isinstance(options, Mapping):
        raise TypeError(f"{name}={options!r} must be a dict of keyword arguments of {function.__name__}")
    allowed = set(inspect.signature(function).parameters) - _GIVEN_BY_US
    if unknown := sorted(map(str, set(options) - allowed)):
        raise TypeError(
            f"{name}: {function.__name__} is given {', '.join(unknown)}, which it does not take here; there are "
            f"{', '.join(sorted(allowed))}"
        )
