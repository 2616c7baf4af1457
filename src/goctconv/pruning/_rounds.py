"""Rounds of cutting, until nothing can go any more, and the report of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .._torch import BatchNorm
from ..graph import Cost, stored_tensors
from ._inputs import PruningError
from ._plan import Masks
from ._reasons import Reason
from ._report import PrunedLayer, PruningReport
from .propagate import Facts
from .solve import Decision, Limits, decide
from .surgery import Moves, Shapes, Surgery, moves_of, shapes_of


@dataclass
class Cuts:
    """Cuts of a model.

    Attributes:
        first: The decision of the first round.
        steps: The new shapes, one per round.
        moves: What was moved, one per round.
        removed: Channels that went, by BatchNorm.
    """

    first: Decision
    steps: list[Shapes] = field(default_factory=list)
    moves: list[Moves] = field(default_factory=list)
    removed: dict[str, list[int]] = field(default_factory=dict)

    def add_attributes(self, slim: nn.Module, attributes: dict[str, dict[str, int]]) -> None:
        """Set attributes of the cut model, now and wherever the steps are taken."""
        for module, values in attributes.items():
            self.steps[-1].attributes.setdefault(module, {}).update(values)
        Surgery(slim).set_attributes(attributes)


def cut_all(
    slim: nn.Module,
    masks: dict[str, Tensor],
    facts: Facts,
    look: Callable[[nn.Module], Facts],
    limits: Limits,
) -> Cuts:
    """Cut a masked model, in place, until nothing goes.

    Another round follows only where channels stayed for the sake of others, of equal pieces.

    Args:
        slim: What is cut.
        masks: Which channels are masked, by BatchNorm.
        facts: What the model is like.
        look: Finds that out again.
        limits: What must stay.
    """
    masks, weights = dict(masks), stored_tensors(slim)
    decision = decide(facts, masks, weights, limits)
    cuts = Cuts(decision)
    left = {name: torch.arange(len(norm.labels)) for name, norm in facts.norms.items()}
    sizes = {name: len(channels) for name, channels in left.items()}
    while True:
        shapes = shapes_of(facts, decision, slim)
        if not shapes.rows and not shapes.grouped:
            break
        moves = moves_of(facts, decision, weights, shapes)
        Surgery(slim).apply(shapes, moves)
        cuts.steps.append(shapes)
        cuts.moves.append(moves)
        for name, norm in facts.norms.items():
            kept = torch.from_numpy(decision.kept(norm.labels))
            left[name] = left[name][kept]
            if name in masks:
                masks[name] = masks[name][kept]
        if not decision.is_balanced:
            break
        try:
            facts = look(slim)
        except PruningError:  # it does not run any more: comparing it will say where
            break
        weights = stored_tensors(slim)
        decision = decide(facts, masks, weights, limits)
    gone = {name: sorted(set(range(sizes[name])) - set(channels.tolist())) for name, channels in left.items()}
    cuts.removed = {name: channels for name, channels in gone.items() if channels}
    return cuts


def report_of(
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
        masked = masks.gammas.get(name, [])
        held = [channel for channel in masked if channel not in gone]
        reasons = dict.fromkeys(held, Reason("not_run"))
        if held and name not in idle:
            reasons = _reasons(norm, facts, cuts, name, held)
        layers[name] = PrunedLayer(norm.num_features, len(masked), len(gone), reasons)
    before, after = costs
    return PruningReport(
        layers,
        (before.parameters, after.parameters),
        (before.macs, after.macs),
        (before.activations, after.activations),
        notes=[*_masked_before(norms, masks), *_whole_layers(norms, masks), *_new_biases(cuts), *facts.failures],
        difference=difference,
    )


def _reasons(norm: BatchNorm, facts: Facts, cuts: Cuts, name: str, channels: list[int]) -> dict[int, Reason]:
    """Return for channels why they stay."""
    if name in facts.norms:
        groups = cuts.first.of(facts.norms[name].labels)[channels].tolist()
        found = cuts.first.reasons
        return {channel: found.get(group, Reason("unknown")) for channel, group in zip(channels, groups, strict=True)}
    return dict.fromkeys(channels, Reason("no_statistics" if norm.running_mean is None else "unknown"))


def _new_biases(cuts: Cuts) -> list[str]:
    """Return a note about layers that get a bias."""
    layers = [name.rpartition(".")[0] for shapes in cuts.steps for name in shapes.biases]
    more = f", {layers[1]}, ..." if len(layers) > 2 else f", {layers[-1]}" if len(layers) == 2 else ""
    number = f"{len(layers)} layers get" if len(layers) > 1 else "1 layer gets"
    return [f"{number} a bias, for constants that went: {layers[0]}{more}"] if layers else []


def _whole_layers(norms: Mapping[str, BatchNorm], masks: Masks) -> list[str]:
    """Return a note about layers that are masked as a whole, which may cut the network in two."""
    whole = [name for name, channels in masks.gammas.items() if len(channels) == norms[name].num_features]
    number = f"{len(whole)} layers are" if len(whole) > 1 else "1 layer is"
    return [f"{number} masked as a whole, such as {whole[0]}: is that intended?"] if whole else []


def _masked_before(norms: Mapping[str, BatchNorm], masks: Masks) -> list[str]:
    """Return a note about layers whose γ was all 0 before, as timm leaves them in an untrained network."""
    found = [name for name in masks.gammas if not bool(norms[name].weight.any())]
    if not found:
        return []
    note = (
        f"all γ were 0 before in {len(found)} layers, such as {found[0]}: were they trained? (timm starts the "
        "last BatchNorm of a residual block at 0; zero_init_last=False does not)"
    )
    return [note]
