"""Facts of a forward pass about channels: what makes and consumes them, and what must stay together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .._reasons import Reason
from ._shadows import FIRST, FROZEN
from ._sizes import Source, SourcedInt, Uses


@dataclass(kw_only=True)
class Consumer:
    """A convolution or linear layer, which reads channels and mixes them.

    Attributes:
        module: Its path.
        weight: The name of its weight.
        bias: The name of its bias; empty if it has none, ``"?"`` if it is computed.
        inputs: Labels of its inputs, by position.
        outputs: Labels of its outputs.
        constant: Which inputs are constants.
        values: Their values, where they are.
        padded: Whether zeros are put around the input.
        groups: Of the convolution.
        factor: What the stored weight is multiplied by before it is used.
        is_plain: Whether the bias and the columns of the layer may be rewritten.
        follower: The path of the BatchNorm that alone reads its output; empty if there is none, ``"?"`` for several.
        losses: How many constants had been lost when it ran.
        is_transposed: Whether it is a transposed convolution, whose weight has its inputs along the first dimension.
        mean: Labels of channels whose mean the input is proportional to; None if there are none.
    """

    module: str
    weight: str
    bias: str
    inputs: Tensor
    outputs: Tensor
    constant: Tensor
    values: Tensor
    padded: bool = False
    groups: int = 1
    factor: float = 1.0
    is_plain: bool = True
    follower: str = ""
    losses: int = 0
    is_transposed: bool = False
    mean: Tensor | None = None


@dataclass
class Blocks:
    """Parts of a dimension that must keep equally many channels, because the code cuts it into equal pieces."""

    labels: list[Tensor]
    reason: Reason


@dataclass
class Cut:
    """A piece of a dimension whose length the code takes from an attribute, which must follow the channels."""

    labels: Tensor
    source: Source
    reason: Reason


@dataclass
class Split:
    """Pieces of one length that the code takes from an attribute, which could be a list of lengths as well."""

    pieces: list[Tensor]
    source: Source
    reason: Reason


@dataclass
class Follow:
    """A piece of a dimension whose length the code computes from the number of channels of a tensor.

    Attributes:
        labels: Of the piece.
        leader: Of the channels that are counted.
        compute: Computes the length from their number.
        reason: What cuts.
    """

    labels: Tensor
    leader: Tensor
    compute: Callable[[int], int]
    reason: Reason


@dataclass
class Norm:
    """A BatchNorm's channels, and which of them are constants after it."""

    labels: Tensor
    constant: Tensor


@dataclass
class Loss:
    """Channels that were constants before an operation, and are none after it."""

    labels: NDArray[np.int32]
    operation: str
    module: str


@dataclass
class Facts:
    """All that forward passes of a model tell about its channels.

    Attributes:
        count: Labels that are in use.
        edges: Pairs of labels that live and die together.
        frozen: Labels that must stay.
        slots: Labels that a shuffle puts side by side, a row for each place of the pieces that it mixes; pieces stay in
            turns only if what is left of them is.
        rows: Labels of stored tensors, by name and dimension.
        elements: Labels of stored tensors that are followed element by element.
        grouped: Consumers with groups, by weight.
        depthwise: Labels of the outputs of depthwise convolutions, by weight.
        uses: How often layers use a stored tensor.
        inputs: Labels of what comes into modules that keep account of their channels, by path and call.
        done: Weights of layers that an earlier pass has seen; a later one adds nothing about them.
        failures: What rules raised though they should not.
        positions: Labels of the channels that a stored tensor of positions chooses from, by its name.
        casts: Types of less precision that parameters were cast to, as in autocast.
    """

    count: int = FIRST
    edges: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    frozen: list[tuple[Tensor, Reason]] = field(default_factory=list)
    consumers: list[Consumer] = field(default_factory=list)
    blocks: list[Blocks] = field(default_factory=list)
    slots: list[Blocks] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    follows: list[Follow] = field(default_factory=list)
    losses: list[Loss] = field(default_factory=list)
    norms: dict[str, Norm] = field(default_factory=dict)
    rows: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    elements: dict[str, Tensor] = field(default_factory=dict)
    grouped: dict[str, Consumer] = field(default_factory=dict)
    depthwise: dict[str, Tensor] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, list[list[Tensor]]] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    positions: dict[str, Tensor] = field(default_factory=dict)
    casts: set[torch.dtype] = field(default_factory=set)

    def continued(self) -> Facts:
        """Return a copy that another pass may add to."""
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        copied = Facts(**{name: value.copy() if hasattr(value, "copy") else value for name, value in values.items()})
        copied.done = set(self.uses)
        return copied

    @property
    def bound(self) -> set[str]:
        """Names of stored tensors whose channels are known."""
        return {name for name, _ in self.rows} | set(self.elements)

    def fresh(self, count: int) -> Tensor:
        """Return new labels."""
        labels = torch.arange(self.count, self.count + count, dtype=torch.int32)
        self.count += count
        return labels

    def count_use(self, name: str) -> None:
        """Note that a layer uses a stored tensor once more."""
        if name not in self.done:
            self.uses[name] = self.uses.get(name, 0) + 1

    def unite(self, a: Tensor, b: Tensor, reason: Reason | None = None) -> None:
        """Note that channels live and die together."""
        a, b = a.reshape(-1), b.reshape(-1)
        is_stuck = (a.numpy() == FROZEN) | (b.numpy() == FROZEN)  # a few times as fast as torch for so few
        if is_stuck.any():
            stuck = torch.from_numpy(is_stuck)
            self.freeze(torch.cat([a[stuck], b[stuck]]), reason or Reason("outside"))
            a, b = a[~stuck], b[~stuck]
        self.edges.append((a, b))

    def freeze(self, labels: Tensor, reason: Reason) -> None:
        """Note that channels must stay."""
        labels = labels.reshape(-1)
        is_known = labels.numpy() >= FIRST
        if not is_known.all():
            labels = labels[torch.from_numpy(is_known)]
        if len(labels):
            self.frozen.append((labels, reason))

    def bind(self, name: str, dimension: int, labels: Tensor) -> None:
        """Note that the entries of a stored tensor along one dimension belong to channels."""
        known = self.rows.get((name, dimension))
        if known is None:
            self.rows[name, dimension] = labels.contiguous()
        elif known is labels:
            return
        elif len(known) == len(labels):
            self.unite(known, labels)
        else:  # used with several widths, as by slicing
            layer, _, attribute = name.rpartition(".")
            self.freeze(torch.cat([known, labels]), Reason("reused", layer, attribute))

    def note_uses(self, uses: Uses) -> None:
        """Note that numbers of channels which the code computes or compares with must stay."""
        fixed = {source.place for source in uses.numbers}
        for source in uses.numbers:
            if source.channels is not None:
                self.freeze(source.channels, Reason("counted", by="the code"))
        pieces = [(cut.source, cut.labels) for cut in self.cuts]
        pieces += [(split.source, torch.cat(split.pieces)) for split in self.splits]
        for source, labels in pieces:
            if source.place in fixed:
                self.freeze(labels, Reason("fixed", *source.place))
        for source, other in uses.equalities:
            if source.channels is not None:
                self._note_equality(source, source.channels, other)

    def _note_equality(self, source: Source, channels: Tensor, other: int) -> None:
        """Note that a number of channels must stay what it is compared with."""
        theirs = other.source if isinstance(other, SourcedInt) else None
        if theirs is None:
            nothing = torch.zeros(0, dtype=torch.int32)
            amount = int(other)
            self.follows.append(Follow(nothing, channels, lambda n: source.compute(n) - amount, Reason("compared")))
        elif theirs.channels is None and source.compute is int:
            self.cuts.append(Cut(channels, theirs, Reason("compared")))
