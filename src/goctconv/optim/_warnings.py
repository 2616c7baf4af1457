"""Warnings that are given once for each of the things that they are about."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

from ._watch import WatchedLayer


class Complaints:
    """Remembers what it has warned of."""

    def __init__(self) -> None:
        self._made: set[str] = set()

    def of_nothing_seen(self) -> None:
        """Warn of a step without any image."""
        self._warn(
            "no BatchNorm has seen images since the last step, so no γ was decayed by it: run the model in train mode, "
            "with gradients, before each step",
            ["nothing seen"],
        )

    def of_unseen(self, layers: dict[str, WatchedLayer]) -> None:
        """Warn of layers without images."""
        frozen = [name for name, layer in layers.items() if not layer.norm.training]
        reason = f" (in eval mode: {len(frozen)})" if frozen else ""
        self._warn(
            f"no activation was seen behind {listed(list(layers))} since the last step, so γ was not decayed there"
            f"{reason}; exclude layers that the forward pass does not use: passes are slower while it waits for them",
            [f"unseen {name}" for name in layers],
        )

    def of_no_gradient(self, names: Sequence[str]) -> None:
        """Warn of scales without gradients."""
        self._warn(
            f"γ of {listed(names)} has no gradient, so it was not decayed: it is frozen, or the loss does not depend "
            "on it; exclude it, or set requires_grad",
            [f"no gradient {name}" for name in names],
        )

    def of_ordinary_decay(self, group: int, weight_decay: object) -> None:
        """Warn of ordinary weight decay on top of the dynamic one."""
        self._warn(
            f"weight_decay={weight_decay} of param group {group} decays scales γ a second time: leave it at 0 where "
            "the group has dynamic_weight_decay",
            [f"decay of group {group}"],
        )

    def _warn(self, message: str, about: Sequence[str]) -> None:
        is_new = not self._made.issuperset(about)
        self._made.update(about)
        if is_new:
            warn(message)


def warn(message: str) -> None:
    """Warn of what the caller's code does: its line is shown, not one of this package or of PyTorch."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and _is_inside(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(f"DynamicWeightDecay: {message}", UserWarning, stacklevel=level)


def _is_inside(module: str) -> bool:
    return module.startswith(("goctconv.optim", "torch.")) or module == "contextlib"


def listed(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more layers"
