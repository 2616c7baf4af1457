"""The effect of masking alone: how far the outputs move, whether they collapse, and which layer does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_COLLAPSED = 0.2
"""Outputs that vary by less than this share of what they varied by before are nearly constant."""


@dataclass(frozen=True)
class MaskingEffect:
    """How far masking moves the outputs of a network on the example, before anything is removed.

    Attributes:
        relative: The root mean square of the change, relative to that of the outputs.
        largest: The largest change, relative to the largest output.
        spread: By how much the outputs vary afterwards, as a share of what they varied by before: of the output that
            lost most, its standard deviation. Below 0.2 the outputs have collapsed.
        layer: Where they have: the BatchNorm that does most of it when it is masked alone; else empty.
        alone: The ``spread`` that masking this layer alone leaves.
    """

    relative: float
    largest: float
    spread: float
    layer: str = ""
    alone: float = 1.0

    @property
    def is_collapse(self) -> bool:
        """Whether the outputs are constant, or nearly so."""
        return self.spread < _COLLAPSED

    def summary(self) -> str:
        """Return the change in a few words."""
        return f"masking changes the outputs on the example by {self.relative:.2g} (largest {self.largest:.2g})"

    def warning(self) -> str:
        """Return what to do about outputs that have collapsed; empty if they have not."""
        if not self.is_collapse:
            return ""
        what = "constant" if self.spread < 1e-6 else f"nearly constant ({self.spread:.1%} of their variation is left)"
        does = (
            "alone does it" if self.alone < _COLLAPSED else f"does most, but leaves {self.alone:.0%} when masked alone"
        )
        cure = "mask less, set max_ratio, or keep that layer"
        return f"masking leaves the outputs on the example {what}: {self.layer} {does}; {cure}"


def effect_of_masking(before: Sequence[Tensor], after: Sequence[Tensor]) -> MaskingEffect | None:
    """Compare outputs; None if there is nothing to compare: no numbers, or not equally many."""
    pairs = [
        (x.double().flatten(), y.double().flatten())
        for x, y in zip(before, after, strict=False)
        if x.is_floating_point() and x.shape == y.shape and x.numel() and x.isfinite().all() and y.isfinite().all()
    ]
    if not pairs or len(before) != len(after):
        return None
    old, new = (torch.cat(side) for side in zip(*pairs, strict=True))
    change = new - old
    relative, largest = change.norm() / old.norm(), change.abs().max() / old.abs().max()
    return MaskingEffect(float(relative.nan_to_num(0.0)), float(largest.nan_to_num(0.0)), _spread(pairs))


def _spread(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the least share of its standard deviation that an output keeps; 1 where none varied."""
    deviations = [(x.std(correction=0), y.std(correction=0), x.abs().max()) for x, y in pairs]
    return min((float(y / x) for x, y, size in deviations if x > 1e-6 * size), default=1.0)


def blamed(
    effect: MaskingEffect, before: Sequence[Tensor], layers: Iterable[str], run: Callable[[str], Sequence[Tensor]]
) -> MaskingEffect:
    """Return the effect with the layer that does most of it.

    Args:
        effect: Of all layers together.
        before: The outputs of the network that is not masked.
        layers: Those with masked channels.
        run: Returns the outputs with one of them masked alone.
    """
    spreads = {}
    for layer in layers:
        alone = effect_of_masking(before, run(layer))
        spreads[layer] = 0.0 if alone is None else alone.spread
    layer = min(spreads, key=lambda name: spreads[name])
    return MaskingEffect(effect.relative, effect.largest, effect.spread, layer, spreads[layer])
