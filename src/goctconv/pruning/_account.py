"""The account of what was cut: a report of decisions."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from .._torch import BatchNorm
from ..graph import Cost
from ._facts import Facts
from ._plan import Masks
from ._report import PrunedLayer, PruningReport
from ._rounds import Cuts


def account(
    norms: Mapping[str, BatchNorm],
    masks: Masks,
    facts: Facts,
    cuts: Cuts,
    costs: tuple[Cost, Cost],
    difference: dict[str, float],
    idle: Collection[str],
) -> PruningReport:
    """Return the report.

    Args:
        norms: BatchNorm layers of the original.
        masks: What was masked.
        facts: What the masked network is like.
        cuts: What was cut.
        costs: Of the masked and the slim network.
        difference: Of their outputs.
        idle: Modules that do not run in eval mode.
    """
    layers = {}
    for name, norm in norms.items():
        gone = set(cuts.removed.get(name, []))
        masked = masks.scales.get(name, [])
        reasons = _reasons(norm, facts, cuts, name) if name not in idle else ["it does not run"] * norm.num_features
        held = {channel: reasons[channel] for channel in masked if channel not in gone}
        layers[name] = PrunedLayer(norm.num_features, len(masked), len(gone), held)
    before, after = costs
    return PruningReport(
        layers,
        (before.parameters, after.parameters),
        (before.macs, after.macs),
        (before.activations, after.activations),
        notes=[
            *_already_nothing(norms, masks),
            *_whole_layers(norms, masks),
            *_new_biases(cuts),
        ],
        difference=difference,
    )


def _reasons(norm: BatchNorm, facts: Facts, cuts: Cuts, name: str) -> list[str]:
    """Return for every channel why it stays, if it does."""
    if name in facts.norms:
        classes = cuts.first.of(facts.norms[name].labels)
        return [cuts.first.reasons.get(int(one), "unknown") for one in classes]
    if norm.running_mean is None:
        return ["it has no running statistics, so nothing is a constant after it"] * norm.num_features
    return ["what it computes is not understood"] * norm.num_features


def _new_biases(cuts: Cuts) -> list[str]:
    """Return a note about layers that get a bias."""
    layers = [name.rpartition(".")[0] for shapes in cuts.steps for name in shapes.biases]
    more = f", {layers[1]}, ..." if len(layers) > 2 else f", {layers[-1]}" if len(layers) == 2 else ""
    number = f"{len(layers)} layers get" if len(layers) > 1 else "1 layer gets"
    return [f"{number} a bias, for constants that went: {layers[0]}{more}"] if layers else []


def _whole_layers(norms: Mapping[str, BatchNorm], masks: Masks) -> list[str]:
    """Return a note about layers that are masked as a whole, which may cut the network in two."""
    whole = [name for name, channels in masks.scales.items() if len(channels) == norms[name].num_features]
    number = f"{len(whole)} layers are" if len(whole) > 1 else "1 layer is"
    return [f"{number} masked as a whole, such as {whole[0]}: is that what you want?"] if whole else []


def _already_nothing(norms: Mapping[str, BatchNorm], masks: Masks) -> list[str]:
    """Return a note about layers whose scales were all 0 before, as timm leaves them in an untrained network."""
    found = [name for name in masks.scales if not bool(norms[name].weight.any())]
    if not found:
        return []
    note = (
        f"all scales were 0 before in {len(found)} layers, such as {found[0]}: were they trained? (timm starts the "
        "last BatchNorm of a residual block at 0; zero_init_last=False does not)"
    )
    return [note]
