"""The effect of masking alone: how far the outputs move, whether they collapse, and which layer does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

_COLLAPSED = 0.2
"""Outputs that vary by less than this share of what they varied by before are nearly constant."""
_FADED = 1e-3
"""So are those of the network before masking, if they vary by less than this share of the largest."""
CONSTANT = "the masked network gives the same for every input: too much is masked"


@dataclass(frozen=True)
class MaskingEffect:
    """How far masking moves the outputs of a network, before anything is removed; see `PruningReport`.

    ``alone`` is ``relative`` of the layer alone, ``on`` the name of the input. ``varied`` is by how much outputs that
    are the same for every input now varied before, as a share of the largest; None for others.
    """

    relative: float
    largest: float
    spread: float
    layer: str = ""
    alone: float = 0.0
    on: str = "the example"
    varied: float | None = None

    @property
    def is_collapse(self) -> bool:
        """Whether the outputs are constant, or nearly so."""
        return self.spread < _COLLAPSED

    @property
    def was_constant(self) -> bool:
        """Whether the outputs were constant, or nearly so, before masking."""
        return self.varied is not None and self.varied < _FADED

    def summary(self) -> str:
        """Return the change in a few words."""
        return f"masking changes the outputs on {self.on} by {self.relative:.2g} (largest {self.largest:.2g})"

    def warning(self) -> str:
        """Return what to do about outputs that have collapsed; empty if they have not."""
        if self.was_constant:
            return (
                "the network itself gives nearly the same for every input, before masking: γ of a whole layer may have "
                f"faded, those of {self.layer} are the smallest; load other weights, or train with less weight decay"
            )
        if not self.is_collapse:
            return ""
        what = "constant" if self.spread < 1e-6 else f"nearly constant ({self.spread:.1%} of their variation is left)"
        does = f"{self.layer} does most of it, {self.alone:.2g} when masked alone"
        return f"masking leaves the outputs {what}: {does}; mask less, set max_ratio, or keep that layer"


Outputs: TypeAlias = "Sequence[Tensor]"


def effect_of_masking(before: Sequence[Outputs], after: Sequence[Outputs]) -> MaskingEffect | None:
    """Compare the outputs for several inputs, by the first one of them; None without shapes and numbers to compare."""
    change = _change(before[0], after[0])
    if change is None:
        return None
    own, masked = ([_deviation(outputs) for outputs in zip(*runs, strict=False)] for runs in (before, after))
    shares = [now / old for old, now in zip(own, masked, strict=False) if old and now is not None]
    return MaskingEffect(*change, min(shares, default=1.0))


def blamed(
    effect: MaskingEffect, before: Outputs, layers: Iterable[str], run: Callable[[str], Outputs]
) -> MaskingEffect:
    """Return the effect with the layer that moves the outputs most where ``run`` masks it alone."""
    changes = {layer: _change(before, run(layer)) or (0.0, 0.0) for layer in layers}
    layer = max(changes, key=lambda name: changes[name])
    return replace(effect, layer=layer, alone=changes[layer][0])


def _change(before: Outputs, after: Outputs) -> tuple[float, float] | None:
    """Return the relative change and the largest one."""
    pairs = [
        (x.double().flatten(), y.double().flatten())
        for x, y in zip(before, after, strict=False)
        if x.is_floating_point() and x.shape == y.shape and x.numel() and x.isfinite().all() and y.isfinite().all()
    ]
    if not pairs or len(before) != len(after):
        return None
    old, new = (torch.cat(side) for side in zip(*pairs, strict=True))
    relative, largest = (new - old).norm() / old.norm(), (new - old).abs().max() / old.abs().max()
    return float(relative.nan_to_num(0.0)), float(largest.nan_to_num(0.0))


def _deviation(outputs: Sequence[Tensor]) -> float | None:
    """Return the standard deviation of one output of several inputs, within channels; None if it is none of numbers.

    What varies by rounding alone has none.
    """
    if not all(own.is_floating_point() and own.dim() > 1 and own.numel() and own.isfinite().all() for own in outputs):
        return None
    if len({own.shape[1] for own in outputs}) > 1:
        return None
    rows = torch.cat([own.double().transpose(0, 1).flatten(1) for own in outputs], 1)
    found = float(rows.var(1, correction=0).mean().sqrt())
    return found if found > 1e-6 * float(rows.abs().max()) else 0.0
