"""Cut what can go, look at what is left, and cut again, until nothing can go any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ._decide import Decision, decide
from ._errors import PruningError
from ._facts import Facts
from ._limits import Limits
from ._rebuild import Moves, Shapes, Surgery, moves_of, shapes_of


@dataclass
class Cuts:
    """What was cut, and why the rest was not.

    Attributes:
        first: The decision of the first round.
        steps: The new shapes, a round each.
        moves: What was moved, a round each.
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
        Surgery(slim).apply(Shapes(attributes={module: dict(values) for module, values in attributes.items()}))


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
    decision = decide(facts, masks, stored(slim), limits)
    cuts = Cuts(decision)
    left = {name: torch.arange(len(norm.labels)) for name, norm in facts.norms.items()}
    sizes = {name: len(channels) for name, channels in left.items()}
    while True:
        shapes = shapes_of(facts, decision, slim)
        if not shapes.rows and not shapes.grouped:
            break
        moves = moves_of(facts, decision, stored(slim), shapes)
        Surgery(slim).apply(shapes, moves)
        cuts.steps.append(shapes)
        cuts.moves.append(moves)
        for name, norm in facts.norms.items():
            kept = torch.from_numpy(decision.kept(norm.labels))
            left[name] = left[name][kept]
            masks = {**masks, name: masks[name][kept]} if name in masks else masks
        if not decision.is_balanced:
            break
        try:
            facts = look(slim)
        except PruningError:  # it does not run any more: comparing it will say where
            break
        decision = decide(facts, masks, stored(slim), limits)
    gone = {name: sorted(set(range(sizes[name])) - set(channels.tolist())) for name, channels in left.items()}
    cuts.removed = {name: channels for name, channels in gone.items() if channels}
    return cuts


def stored(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
