"""What a forward pass tells about channels: who makes them, who reads them, what must stay together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ._provenance import Source
from ._shadows import FIRST, FROZEN


@dataclass
class Reader:
    """A convolution or linear layer that reads channels and mixes them.

    Attributes:
        module: Its path.
        weight: The name of its weight.
        bias: The name of its bias; empty if it has none.
        labels: Of its inputs, by position.
        constant: Which inputs are constants.
        values: Their values, where they are.
        padded: Whether zeros are put around the input.
        groups: Of the convolution.
        outputs: Labels of what it puts out.
        factor: What the stored weight is multiplied by before it is used.
        is_plain: Whether the layer is one whose bias and columns may be rewritten.
        follower: The path of the BatchNorm that alone reads what it puts out; empty if there is none.
        losses: How many constants had been lost when it ran.
    """

    module: str
    weight: str
    bias: str
    labels: Tensor
    constant: Tensor
    values: Tensor
    padded: bool
    groups: int
    outputs: Tensor
    factor: float = 1.0
    is_plain: bool = True
    follower: str = ""
    losses: int = 0


@dataclass
class Blocks:
    """Parts of a dimension that must keep equally many channels, because the code cuts it into equal pieces."""

    labels: list[Tensor]
    reason: str


@dataclass
class Cut:
    """A piece of a dimension whose length the code takes from an attribute, which must follow the channels.

    Attributes:
        labels: Of the piece.
        source: Where its length comes from.
        reason: What cuts.
    """

    labels: Tensor
    source: Source
    reason: str


@dataclass
class Split:
    """Pieces of one length that the code takes from an attribute, which could be a list of lengths as well.

    Attributes:
        pieces: Their labels.
        source: The attribute.
        reason: What splits.
    """

    pieces: list[Tensor]
    source: Source
    reason: str


@dataclass
class Follow:
    """A piece of a dimension whose length the code computes from the number of channels of a tensor.

    Attributes:
        labels: Of the piece.
        leader: Of the channels that are counted.
        compute: How the length is computed from their number.
        reason: What cuts.
    """

    labels: Tensor
    leader: Tensor
    compute: Callable[[int], int]
    reason: str


@dataclass
class Norm:
    """A BatchNorm's channels, and which of them are constants after it."""

    module: str
    labels: Tensor
    constant: Tensor


@dataclass
class Loss:
    """Channels that were constants before an operation, and are none after it."""

    labels: Tensor
    operation: str
    module: str


@dataclass
class Facts:
    """All that was found in one forward pass."""

    count: int = FIRST
    edges: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    frozen: list[tuple[Tensor, str]] = field(default_factory=list)
    readers: list[Reader] = field(default_factory=list)
    blocks: list[Blocks] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    splits: list[Split] = field(default_factory=list)
    follows: list[Follow] = field(default_factory=list)
    norms: dict[str, Norm] = field(default_factory=dict)
    rows: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    elements: dict[str, Tensor] = field(default_factory=dict)
    grouped: dict[str, Reader] = field(default_factory=dict)
    depthwise: dict[str, Tensor] = field(default_factory=dict)
    uses: dict[str, int] = field(default_factory=dict)
    inputs: dict[str, list[Tensor]] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)

    def fresh(self, count: int) -> Tensor:
        """Return new labels."""
        labels = torch.arange(self.count, self.count + count, dtype=torch.int32)
        self.count += count
        return labels

    def count_use(self, name: str) -> None:
        """Note that a layer uses a stored tensor once more."""
        self.uses[name] = self.uses.get(name, 0) + 1

    def unite(self, a: Tensor, b: Tensor, reason: str = "it meets something that must stay") -> None:
        """Note that channels live and die together."""
        a, b = a.reshape(-1), b.reshape(-1)
        stuck = (a == FROZEN) | (b == FROZEN)
        if stuck.any():
            self.freeze(torch.cat([a[stuck], b[stuck]]), reason)
            a, b = a[~stuck], b[~stuck]
        self.edges.append((a, b))

    def freeze(self, labels: Tensor, reason: str) -> None:
        """Note that channels must stay."""
        unique = labels.unique()  # type: ignore[no-untyped-call]  # torch's own
        unique = unique[unique >= FIRST]
        if len(unique):
            self.frozen.append((unique, reason))

    def bind(self, name: str, dimension: int, labels: Tensor) -> None:
        """Note that the entries of a stored tensor along one dimension belong to channels."""
        if (name, dimension) not in self.rows:
            self.rows[name, dimension] = labels.contiguous()
        elif len(self.rows[name, dimension]) == len(labels):
            self.unite(self.rows[name, dimension], labels)
        else:  # used with several widths, as by slicing
            self.freeze(torch.cat([self.rows[name, dimension], labels]), f"{name} is used in several ways")
