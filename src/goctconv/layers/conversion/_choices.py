"""Values with one node per scale, and the choices of a conversion that are revised while it goes on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import fx

from ._parts import Indices


class Scales(NamedTuple):
    """A value of the original network that has one node per scale in the converted one.

    Attributes:
        parts: The nodes, finest first.
        channels: The channels of the original that each holds.
        sources: Names of the convolutions whose choices made them so.
    """

    parts: tuple[fx.Node, ...]
    channels: tuple[Indices, ...]
    sources: frozenset[str]

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of every scale."""
        return tuple(map(len, self.channels))


class ShapeOf(NamedTuple):
    """The shape of such a value."""

    value: Scales


class ChoicesChanged(Exception):  # noqa: N818  # no error: the conversion begins again
    """The choices of layers that are converted already must be others."""


@dataclass
class Choices:
    """What becomes of every convolution.

    Attributes:
        alpha: Shares of the channels at the coarser scales.
        downsample: How a fine scale reaches a coarse one.
        upsample: How a coarse scale reaches a fine one.
        kept: Names of modules that stay as they are.
        fine: Names of convolutions that give plain tensors.
        multiples: Of what number the widths of a convolution's outputs are multiples.
    """

    alpha: tuple[float, ...]
    downsample: str
    upsample: str
    kept: set[str] = field(default_factory=set)
    fine: set[str] = field(default_factory=set)
    multiples: dict[str, int] = field(default_factory=dict)

    def keeps(self, name: str) -> bool:
        """Whether a module stays, or is in one that does."""
        places = name.split(".")
        return any(".".join(places[:end]) in self.kept for end in range(1, len(places) + 1))

    def split(self, channels: int, multiple: int = 1) -> tuple[Indices, ...]:
        """Return which channels go to which scale: runs of them, of which the coarser are rounded down."""
        coarse = [int(share * channels / multiple) * multiple for share in self.alpha]
        bounds = [0, channels - sum(coarse)]
        for width in coarse:
            bounds.append(bounds[-1] + width)
        return tuple(tuple(range(start, end)) for start, end in itertools.pairwise(bounds))

    def keep(self, names: Iterable[str]) -> None:
        """Leave modules as they are, and begin again."""
        self.kept.update(names)
        raise ChoicesChanged

    def refine(self, sources: Collection[str], multiple: int = 1) -> None:
        """Give several convolutions outputs of one granularity, and begin again if that changes any."""
        common = math.lcm(multiple, *(self.multiples.get(name, 1) for name in sources))
        if any(self.multiples.get(name, 1) != common for name in sources):
            self.multiples.update(dict.fromkeys(sources, common))
            raise ChoicesChanged

    def give_plain(self, name: str) -> None:
        """Make a convolution give a plain tensor, and begin again."""
        self.fine.add(name)
        raise ChoicesChanged
