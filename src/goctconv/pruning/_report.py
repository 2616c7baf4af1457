"""What pruning changed, and why masked channels stayed."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class PrunedLayer:
    """A BatchNorm before and after.

    Attributes:
        channels: Before.
        masked: How many were masked.
        removed: How many of those are gone.
        held: Why the other masked ones stayed: the reason by channel.
    """

    channels: int
    masked: int
    removed: int
    held: dict[int, str] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Channels after."""
        return self.channels - self.removed


@dataclass(frozen=True)
class PruningReport:
    """What pruning changes, by layer and in all.

    Attributes:
        layers: By BatchNorm.
        parameters: Before and after.
        macs: Multiply-accumulate operations of convolutions and linear layers, before and after.
        activations: Bytes of all their outputs, before and after.
        notes: What else is worth knowing.
        difference: Largest difference of the outputs of pruned and masked network, relative to the largest output, by
            the size of the input; empty before verification.
        milliseconds: Of a forward pass, before and after; None if it was not asked for.
    """

    layers: dict[str, PrunedLayer]
    parameters: tuple[int, int]
    macs: tuple[int, int]
    activations: tuple[int, int]
    notes: list[str] = field(default_factory=list)
    difference: dict[str, float] = field(default_factory=dict)
    milliseconds: tuple[float, float] | None = None

    @property
    def masked(self) -> int:
        """Masked channels of all layers."""
        return sum(layer.masked for layer in self.layers.values())

    @property
    def removed(self) -> int:
        """Removed channels of all layers."""
        return sum(layer.removed for layer in self.layers.values())

    def reasons(self) -> dict[str, int]:
        """Return how many channels each reason holds, the most frequent first."""
        counted = Counter(reason for layer in self.layers.values() for reason in layer.held.values())
        return dict(counted.most_common())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PruningReport:
        """Return the report that `to_dict` gave."""
        layers = {
            name: PrunedLayer(**{**one, "held": {int(channel): reason for channel, reason in one["held"].items()}})
            for name, one in data["layers"].items()
        }
        pairs = {key: tuple(data[key]) for key in ("parameters", "macs", "activations")}
        time = data.get("milliseconds")
        return cls(**{**data, **pairs, "layers": layers, "milliseconds": None if time is None else tuple(time)})

    def __str__(self) -> str:
        lines = [
            f"{self.removed} of {self.masked} masked channels removed, of {sum(x.channels for x in self.layers.values())}",
            _change("parameters", *self.parameters),
            _change("MACs", *self.macs),
            _change("bytes of activations", *self.activations),
        ]
        if self.milliseconds is not None:
            lines.append(f"milliseconds: {self.milliseconds[0]:.1f} -> {self.milliseconds[1]:.1f}")
        for size, difference in self.difference.items():
            lines.append(f"largest difference to the masked network at {size}: {difference:.1e} of the largest output")
        width = max((len(name) for name in self.layers), default=0)
        for name, layer in self.layers.items():
            if layer.masked:
                stayed = f", {layer.masked - layer.removed} masked ones stayed" if layer.masked > layer.removed else ""
                lines.append(f"  {name:{width}}  {layer.channels:4} -> {layer.left:4}{stayed}")
        reasons = self.reasons()
        if reasons:
            lines.append("masked channels stayed because")
            lines += [f"  {count:5}  {reason}" for reason, count in list(reasons.items())[:12]]
            if len(reasons) > 12:
                lines.append(f"         and {len(reasons) - 12} more reasons")
        return "\n".join(lines + self.notes)


def _change(name: str, before: int, after: int) -> str:
    share = f" ({after / before:.1%})" if before else ""
    return f"{name}: {before:,} -> {after:,}{share}"
